"""One step of the engine against the same step written with the plain model and autograd."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.batches import BatchReader, MicroBatch
from hzlm.data.blend import Blend
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.losses import TrainingLoss
from hzlm.train.engine import Engine
from hzlm.train.lamb import Lamb
from hzlm.train.optimizer import split_by_decay
from hzlm.train.ranks import connect
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]
CLIPPING = 0.25


@pytest.fixture
def data(tmp_path: Path, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path / "data", sentences)


def make_config(data: Path, model: ModelConfig, **train: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": model.model_dump(),
            "data": {"path": data, "row_length": 20, "views": {"masked": 1.0, "pinyin": 1.0}},
            "loss": {"encoder_weight": 0.5, "label_smoothing": 0.1},
            "optimizer": {"gradient_clipping": CLIPPING},
            "schedule": {"scale": 1.0, "warmup_steps": 10},
            "train": {"output": data / "run", "steps": 5, "micro_batch_rows": 2, "accumulation": 3, **train},
        },
        strict=False,
    )


def batches_of(config: RunConfig) -> list[MicroBatch]:
    reader = BatchReader(Blend.open(config.data, "train"), config.data, config.train.seed)
    return next(reader.steps(0, 2, config.train.accumulation)).micro_batches


def plain_step(
    model: EncoderDecoder, lamb: Lamb, loss: TrainingLoss, batches: list[MicroBatch], clipping: float
) -> tuple[float, float]:
    """Sum of the batches' mean loss, clipped by torch, stepped by LAMB. Returns loss and norm before clipping."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        part = loss(model(batch.inputs), batch.labels) / len(batches)
        part.backward()
        total += part.item()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clipping)
    lamb.step()
    return total, float(norm)


def test_fp32_steps_equal_plain_torch(data: Path, vocabulary: Vocabulary, model_config: ModelConfig) -> None:
    config = make_config(data, model_config)
    engine = Engine(config, vocabulary, connect(config.parallel))
    model = EncoderDecoder(config.model, vocabulary.size, vocabulary.target_start).initialize(config.train.seed)
    names = {parameter: name for name, parameter in model.named_parameters()}
    lamb = Lamb(split_by_decay(names.keys(), config.optimizer.weight_decay))
    loss = TrainingLoss(config.loss, vocabulary.size, vocabulary.target_start)
    batches = batches_of(config)
    assert engine.parameters.keys() == set(names.values())
    for step in (1, 2, 3):
        rate = 0.01 * step
        for group in lamb.param_groups:
            group["lr"] = rate
        expected_loss, expected_norm = plain_step(model, lamb, loss, batches, CLIPPING)
        result = engine.train_step(batches, step, rate)
        assert sum(side.factor * side.loss for side in result.losses.values()) == pytest.approx(expected_loss, rel=1e-5)
        assert result.gradient_norm == pytest.approx(expected_norm, rel=1e-4)
        assert expected_norm > CLIPPING, "the test must clip"
    assert engine.optimizer_steps == 3
    for parameter, name in names.items():
        state = engine.parameters[name]
        # Adam divides by the root of the second moment, so a key bias, whose gradient is rounding noise, wanders
        if not name.endswith("key.bias"):
            torch.testing.assert_close(
                state.weight, parameter, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n} {text}"
            )
        torch.testing.assert_close(state.masters.view(parameter.shape), state.weight.detach())


def test_the_split_into_micro_batches_changes_no_number(
    data: Path, vocabulary: Vocabulary, model_config: ModelConfig
) -> None:
    """Six rows as 3 x 2 or as 1 x 6: one loss and one gradient norm, though the counts of the parts differ."""
    config = make_config(data, model_config)
    reader = BatchReader(Blend.open(config.data, "train"), config.data, config.train.seed)
    results = []
    for rows, accumulation in ((2, 3), (6, 1)):
        split = make_config(data, model_config, micro_batch_rows=rows, accumulation=accumulation)
        engine = Engine(split, vocabulary, connect(split.parallel))
        batches = next(reader.steps(0, rows, accumulation)).micro_batches
        results.append(engine.train_step(batches, 1, 0.01))
    parts, whole = results
    assert parts.losses["decoder"].counted == whole.losses["decoder"].counted
    for side in ("encoder", "decoder"):
        assert parts.losses[side].loss == pytest.approx(whole.losses[side].loss, rel=1e-5)
    assert parts.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-5)


def test_bf16_follows_fp32_with_fp32_masters(data: Path, vocabulary: Vocabulary, model_config: ModelConfig) -> None:
    """Thirty steps bring both from 2.8 to about 2.4; they stay within the rounding of bfloat16 of each other."""
    config = make_config(data, model_config)
    losses = {}
    for precision in ("fp32", "bf16"):
        engine = Engine(make_config(data, model_config, precision=precision), vocabulary, connect(config.parallel))
        batches = batches_of(config)
        for step in range(1, 31):
            result = engine.train_step(batches, step, 0.01)
        losses[precision] = result.losses["decoder"].loss
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.01)
    assert losses["fp32"] < 2.6
    for state in engine.parameters.values():
        assert state.weight.dtype == torch.bfloat16
        assert state.masters.dtype == state.exp_avg.dtype == torch.float32
        assert torch.equal(state.masters.bfloat16().view(state.weight.shape), state.weight)


def test_evaluation_has_no_dropout_and_no_smoothing(
    data: Path, vocabulary: Vocabulary, model_config: ModelConfig
) -> None:
    config = make_config(data, model_config.model_copy(update={"dropout": 0.5}))
    engine = Engine(config, vocabulary, connect(config.parallel))
    batches = batches_of(config)
    first, second = engine.evaluate(batches), engine.evaluate(batches)
    assert first["decoder"].loss == second["decoder"].loss
    model = EncoderDecoder(config.model, vocabulary.size, vocabulary.target_start).initialize(config.train.seed).eval()
    plain = TrainingLoss(
        config.loss.model_copy(update={"label_smoothing": 0.0}), vocabulary.size, vocabulary.target_start
    )
    for batch in batches:
        plain(model(batch.inputs), batch.labels)
    expected = plain.take()
    assert first["decoder"].loss == pytest.approx(expected["decoder"].loss, rel=1e-5)
    assert first["decoder"].correct == expected["decoder"].correct
    result = engine.train_step(batches, 1, 0.0)
    again = engine.train_step(batches, 1, 0.0)
    other = engine.train_step(batches, 2, 0.0)
    assert result.losses["decoder"].loss == again.losses["decoder"].loss
    assert result.losses["decoder"].loss != other.losses["decoder"].loss, "dropout is on, by step"
