"""The gradient noise scale where the truth is known, and that measuring it leaves no trace."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.batches import BatchReader, MicroBatch
from hzlm.data.blend import Blend
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.losses import TrainingLoss
from hzlm.parallel.mesh import ALONE
from hzlm.train.engine import Engine
from hzlm.train.noise import PARTS, NoiseScale, measure_noise
from hzlm.train.ranks import connect
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]


@pytest.mark.parametrize(("parts", "dtype"), [(2, torch.float32), (4, torch.float32), (4, torch.bfloat16)])
def test_signal_and_noise_are_those_of_the_gradients(parts: int, dtype: torch.dtype) -> None:
    """Gradients G + noise whose covariance differs by element: both estimates within 4 standard errors of the truth."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(30, 20), (50,)]
    truth = [0.1 * torch.randn(shape, generator=generator) for shape in shapes]
    deviations = [torch.rand(shape, generator=generator) for shape in shapes]
    positions = 40.0
    signal = sum(float(tensor.square().sum()) for tensor in truth)
    noise = sum(float(tensor.square().sum()) for tensor in deviations)

    def draw() -> list[torch.Tensor]:
        """The mean over the positions of a part."""
        return [
            (mean + deviation * torch.randn(mean.shape, generator=generator) / positions**0.5).to(dtype)
            for mean, deviation in zip(truth, deviations, strict=True)
        ]

    found = [measure_noise((draw() for _ in range(parts)), positions, truth, ALONE) for _ in range(200)]
    for expected, estimates in ((signal, [one.signal for one in found]), (noise, [one.noise for one in found])):
        error = np.std(estimates) / len(estimates) ** 0.5
        assert abs(np.mean(estimates) - expected) < 4 * error + 1e-3 * expected
        assert error < 0.03 * expected, "the test could not tell a right from a wrong estimate"
    average = NoiseScale()
    for one in found[:30]:
        average = average.updated(one)
    assert average.positions == pytest.approx(noise / signal, rel=0.3)


def test_what_is_lost_in_the_noise_is_not_told() -> None:
    assert NoiseScale().positions is None
    assert NoiseScale(signal=-1.0, noise=5.0).positions is None
    assert NoiseScale(signal=2.0, noise=5.0).positions == 2.5


@pytest.fixture
def data(tmp_path: Path, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path / "data", sentences)


def make_config(data: Path, model: ModelConfig, dropout: float = 0.0) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": model.model_dump() | {"dropout": dropout},
            "data": {"path": data, "row_length": 20, "views": {"masked": 1.0, "pinyin": 1.0}},
            "loss": {"encoder_weight": 0.5},
            "schedule": {"scale": 1.0, "warmup_steps": 10},
            "train": {"output": data / "run", "steps": 5, "micro_batch_rows": 3, "accumulation": 2},
        },
        strict=False,
    )


def batches_of(config: RunConfig, rows: int, micro_batches: int) -> list[MicroBatch]:
    reader = BatchReader(Blend.open(config.data, "train"), config.data, config.train.seed)
    return next(reader.steps(0, rows, micro_batches)).micro_batches


@pytest.mark.parametrize("rows", [8, 10])
def test_the_engine_measures_the_gradients_of_the_plain_model(
    data: Path, vocabulary: Vocabulary, model_config: ModelConfig, rows: int
) -> None:
    """Four parts of two rows; what is left over has no part in it."""
    config = make_config(data, model_config)
    batches = batches_of(config, rows, 1)
    model = EncoderDecoder(config.model, vocabulary.size, vocabulary.target_start).initialize(config.train.seed)
    loss = TrainingLoss(config.loss, vocabulary.size, vocabulary.target_start)
    gradients = []
    for start in range(0, 8, 2):
        part = slice(start, start + 2)
        model.zero_grad()
        (batch,) = batches
        (PARTS * loss(model((batch.tokens[:, part], batch.positions[part], batch.segments[part])),
                      (batch.targets[part], batch.weights[:, part]))).backward()  # fmt: skip
        gradients.append([parameter.grad.double() for parameter in model.parameters()])
    # written as the paper has it: a small batch, and the large one that is all of them
    small = np.mean([sum(float(tensor.square().sum()) for tensor in part) for part in gradients])
    whole = [torch.stack(tensors).mean(dim=0) for tensors in zip(*gradients, strict=True)]
    large = sum(float(tensor.square().sum()) for tensor in whole)
    b_large = int((batch.segments[:8] > 0).sum())
    b_small = b_large / PARTS
    found = Engine(config, vocabulary, connect(config.parallel)).measure_noise(batches, step=1)
    assert found is not None
    assert found.signal == pytest.approx((b_large * large - b_small * small) / (b_large - b_small), rel=1e-3)
    assert found.noise == pytest.approx((small - large) / (1 / b_small - 1 / b_large), rel=1e-3)


def test_measuring_changes_no_number_of_the_training(
    data: Path, vocabulary: Vocabulary, model_config: ModelConfig
) -> None:
    config = make_config(data, model_config, dropout=0.3)
    batches = batches_of(config, 3, 2)
    plain, measuring = (
        Engine(config, vocabulary, connect(config.parallel)),
        Engine(config, vocabulary, connect(config.parallel)),
    )
    for step in (1, 2, 3):
        assert measuring.measure_noise(batches, step) is not None
        ours, theirs = measuring.train_step(batches, step, 0.01), plain.train_step(batches, step, 0.01)
        assert ours.gradient_norm == theirs.gradient_norm
        assert {side: part.loss for side, part in ours.losses.items()} == {
            side: part.loss for side, part in theirs.losses.items()
        }
    for name, state in plain.parameters.items():
        assert torch.equal(state.masters, measuring.parameters[name].masters), name
    assert measuring.measure_noise(batches, 4) == plain.measure_noise(batches, 4), "dropout depends on the step alone"


def test_too_few_rows_cannot_be_compared(data: Path, vocabulary: Vocabulary, model_config: ModelConfig) -> None:
    config = make_config(data, model_config)
    assert Engine(config, vocabulary, connect(config.parallel)).measure_noise(batches_of(config, 3, 1), 1) is None
