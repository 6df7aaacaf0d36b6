"""Averages of the weights: the recurrence, what is measured by them, and that a run goes on with them bit for bit.

`test_rate_factors.py` compares those of engines, alone and on several ranks, with the recurrence.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from engines import make_config
from safetensors.torch import load_file

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.batches import BatchReader
from hzlm.data.blend import Blend
from hzlm.model.losses import TrainingLoss
from hzlm.model.pretrained import find_checkpoint, load_model
from hzlm.train.averages import Averages
from hzlm.train.records import TIMING, read_metrics
from hzlm.train.run import EVALUATION_SEED, train

Write = Callable[[Path, Sequence[str]], Path]


@pytest.mark.parametrize("decay", [0.15, 0.9, 0.999])
def test_the_recurrence_of_float64(decay: float) -> None:
    generator = torch.Generator().manual_seed(4)
    masters = [torch.randn(size, generator=generator) for size in (7, 300)]
    averages = Averages(masters, decay)
    wanted = [master.numpy().astype(np.float64) for master in masters]
    for step in range(1, 60):
        for master in masters:
            master.add_(torch.randn(master.shape, generator=generator))
        averages.update(step)
        kept = min(decay, (1 + step) / (10 + step))
        wanted = [kept * old + (1 - kept) * master.numpy() for old, master in zip(wanted, masters, strict=True)]
    for master, expected in zip(masters, wanted, strict=True):
        np.testing.assert_allclose(averages.of(master).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_two_swaps_are_none() -> None:
    """Bit by bit: also of numbers whose sum and difference would round."""
    master = torch.tensor([1e30, -0.0, 1e-30, 3.0])
    averages = Averages([master], 0.5)
    averages.of(master).copy_(torch.tensor([1.0, 2.0, 0.0, 1e-8]))
    averages.swap()
    assert master.tolist() == torch.tensor([1.0, 2.0, 0.0, 1e-8]).tolist()
    averages.swap()
    assert master.view(torch.int32).equal(torch.tensor([1e30, -0.0, 1e-30, 3.0]).view(torch.int32))
    assert averages.of(master).tolist() == torch.tensor([1.0, 2.0, 0.0, 1e-8]).tolist()


@pytest.fixture(scope="module")
def make(
    tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str], model_config: ModelConfig
) -> Callable[..., RunConfig]:
    folder = tmp_path_factory.mktemp("averages")
    data = write_dataset(folder / "data", sentences)

    def make(name: str, **changes: object) -> RunConfig:
        plan = {"output": folder / name, "steps": 6, "evaluate_every": 2, "save_every": 4, "average_decay": 0.9}
        return make_config(data, model_config, train={**plan, "log_every": 1, "precision": "bf16", **changes})

    return make


def stored(run: Path, kind: str) -> dict[str, torch.Tensor]:
    folder = find_checkpoint(run)
    assert folder is not None
    return load_file(folder / f"{kind}-00000-00000.safetensors")


@pytest.fixture(scope="module")
def straight(make: Callable[..., RunConfig]) -> Path:
    return train(make("straight"))


def test_a_run_goes_on_with_them_bit_for_bit(make: Callable[..., RunConfig], straight: Path) -> None:
    train(make("stopped", steps=4))
    stopped = train(make("stopped"))
    for kind in ("weights", "masters", "averages"):
        ours, theirs = stored(stopped, kind), stored(straight, kind)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ours, theirs = (
        [{key: value for key, value in line.items() if key not in TIMING} for line in read_metrics(run)]
        for run in (stopped, straight)
    )
    assert ours == theirs


def test_they_change_what_is_measured_and_no_step(make: Callable[..., RunConfig], straight: Path) -> None:
    plain = train(make("plain", average_decay=0.0))
    ours, theirs = stored(straight, "masters"), stored(plain, "masters")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not list(find_checkpoint(plain).glob("averages-*"))
    last, other = (read_metrics(run)[-1] for run in (straight, plain))
    assert last["train/loss"] == other["train/loss"]
    assert last["dev/loss"] != other["dev/loss"]


def test_they_are_what_is_loaded_and_what_the_dev_loss_is_of(make: Callable[..., RunConfig], straight: Path) -> None:
    model, vocabulary = load_model(straight)
    averages, masters = stored(straight, "averages"), stored(straight, "masters")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, averages[name])
    assert any(not torch.equal(averages[name], masters[name]) for name in masters)
    config = make("straight")
    dev = BatchReader(Blend.open(config.data, "dev"), config.data, EVALUATION_SEED)
    loss = TrainingLoss(config.loss, vocabulary.size, vocabulary.target_start)
    for batch in dev.one_pass(1, config.train.evaluate_rows, at_least=1):
        loss(model(batch.inputs), batch.labels)
    found = sum(part.loss * part.factor for part in loss.take().values())
    assert read_metrics(straight)[-1]["dev/loss"] == pytest.approx(found, rel=2e-3), "but for bfloat16"


def test_a_run_starts_from_them(make: Callable[..., RunConfig], straight: Path) -> None:
    """A frozen one is still where it began after a step."""
    frozen = {"rate_factors": {"tokens": 0.0}}
    config = make("second", initial_weights=straight, steps=1)
    config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update=frozen)})
    second = train(config)
    first = stored(straight, "averages")["tokens.weight"]
    assert not torch.equal(first, stored(straight, "masters")["tokens.weight"])
    for kind in ("masters", "averages"):
        assert torch.equal(stored(second, kind)["tokens.weight"], first)
    assert torch.equal(stored(second, "weights")["tokens.weight"], first.bfloat16())
