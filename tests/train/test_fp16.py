"""fp16 on CPUs, which not every one can in DeepSpeed's eyes: loss scale, skipped steps, resuming."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from engines import RATE, changes, complaint, make_config, start_engine, state_of
from hypothesis import given
from hypothesis import strategies as st

from hzlm.config import ModelConfig, RunConfig
from hzlm.errors import UserError
from hzlm.launch.processes import run_ranks
from hzlm.train import engine as engine_module
from hzlm.train.engine import StepResult, deepspeed_settings
from hzlm.train.loss_scale import loss_scale_state, restore_loss_scale
from hzlm.train.records import read_metrics
from hzlm.train.run import train
from runs import assert_equal_runs

Write = Callable[[Path, Sequence[str]], Path]
FIRST_SCALE = 2.0**16
SMALL = {"decoder_weight": 0.1, "encoder_weight": 0.05}
"""Weights of the loss with which no gradient overflows at the first scale, however they are summed."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), sentences)


@contextmanager
def accepted() -> Iterator[None]:
    """DeepSpeed takes fp16 for what every CPU can do, as torch does, however slowly."""
    with patch.object(type(get_accelerator()), "is_fp16_supported", lambda accelerator: True):
        yield


def train_as_rank(configs: Sequence[RunConfig], steps: int) -> list[list[StepResult]]:
    """The steps under each config, all on the same batches."""
    found = []
    with accepted():
        for config in configs:
            engine, batches = start_engine(config)
            first = next(batches)
            found.append([engine.train_step(first, step, RATE) for step in range(1, steps + 1)])
            wanted = torch.float16 if config.train.precision == "fp16" else torch.float32
            assert {state.weight.dtype for state in engine.parameters.values()} == {wanted}
            assert {state.masters.dtype for state in engine.parameters.values()} == {torch.float32}
    return found


def losses_of(results: Sequence[StepResult]) -> list[float]:
    assert not any(result.skipped for result in results)
    return [result.losses[side].loss for result in results for side in ("encoder", "decoder")]


def test_the_loss_follows_that_of_fp32(data: Path, model_config: ModelConfig) -> None:
    """Thirty steps; float16 holds eleven bits, float32 twenty-four."""
    configs = [
        make_config(data, model_config, train={"precision": precision}, loss=SMALL) for precision in ("fp16", "fp32")
    ]
    half, full = map(losses_of, train_as_rank(configs, 30))
    assert half == pytest.approx(full, rel=0.01)
    assert half != full
    assert full[-1] < 0.9 * full[1]


def test_every_layout_has_the_losses_of_one_process(data: Path, model_config: ModelConfig) -> None:
    layouts = ((2, 1, 1), (1, 2, 1), (1, 1, 2))
    alone, *configs = (
        make_config(data, model_config, layout, train={"precision": "fp16"}, loss=SMALL)
        for layout in ((1, 1, 1), *layouts)
    )
    (expected,) = train_as_rank([alone], 10)
    for found in run_ranks(train_as_rank, 2, configs, 10):
        for results in found:
            assert losses_of(results) == pytest.approx(losses_of(expected), rel=1e-3)
            norms, wanted = ([result.gradient_norm for result in each] for each in (results, expected))
            assert norms == pytest.approx(wanted, rel=1e-2)


def overflow_as_rank(
    configs: Sequence[RunConfig],
) -> list[tuple[list[tuple[bool, float | None, int]], list[str], float]]:
    """Three steps in which the gradient of one weight overflows on the last rank alone, then two good ones.

    Returns:
        For each config: of each step whether it was skipped, the loss scale after it and the optimizer's steps so far;
        what the first three have changed; and the loss of the last.
    """
    return [_overflow(config) for config in configs]


def _overflow(config: RunConfig) -> tuple[list[tuple[bool, float | None, int]], list[str], float]:
    with accepted():
        engine, steps = start_engine(config)
    batches = next(steps)
    name = "decoder.1.feed_forward_norm.bias"
    hook = None
    if engine.mesh.world.index == engine.mesh.world.size - 1:
        hook = engine.parameters[name].weight.register_hook(lambda gradient: gradient * float("inf"))
    before, told = state_of(engine), []
    for step in range(1, 6):
        result = engine.train_step(batches, step, RATE)
        told.append((result.skipped, engine.loss_scale, engine.optimizer_steps))
        assert (result.gradient_norm == float("inf")) == result.skipped
        if step == 3:
            changed = changes(engine, before)
            if hook is not None:
                hook.remove()
    return told, changed, result.losses["decoder"].loss


def test_an_overflow_on_one_rank_is_skipped_by_all(data: Path, model_config: ModelConfig) -> None:
    """DeepSpeed forgives the first one; each one after that halves the scale."""
    alone, *configs = (
        make_config(data, model_config, layout, train={"precision": "fp16"}, loss=SMALL)
        for layout in ((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 1))
    )
    ((_, second),) = train_as_rank([alone], 2)
    found = [overflow_as_rank([alone]), *run_ranks(overflow_as_rank, 2, configs)]
    assert [len(outcomes) for outcomes in found] == [1, 3, 3]
    for told, changed, loss in (outcome for outcomes in found for outcome in outcomes):
        assert changed == []
        assert told == [
            *((True, scale, 0) for scale in (FIRST_SCALE, FIRST_SCALE / 2, FIRST_SCALE / 4)),
            *((False, FIRST_SCALE / 4, steps) for steps in (1, 2)),
        ]
        assert loss == pytest.approx(second.losses["decoder"].loss, rel=1e-3), "as if they had never been"


def test_a_loss_that_is_too_large_for_the_first_scale(data: Path, model_config: ModelConfig) -> None:
    """A factor of 256 more on the loss takes a scale of a 256th, with which all is the same again: fp16 is binary.

    `train.checks` finds no fault in the steps that are skipped.
    """
    factor = 256.0
    large = {side: factor * weight for side, weight in SMALL.items()}
    results, scales = {}, {}
    for loss in (SMALL, large):
        with accepted():
            config = make_config(
                data, model_config, loss=loss, train={"precision": "fp16", "checks": True},
                optimizer={"gradient_clipping": 0.0},
            )  # fmt: skip
            engine, steps = start_engine(config)
        batches = next(steps)
        for step in range(1, 20):
            result = engine.train_step(batches, step, RATE)
            if not result.skipped:
                break
        results[loss["decoder_weight"]], scales[loss["decoder_weight"]] = result, engine.loss_scale
    small, big = results.values()
    first, last = scales.values()
    assert first == FIRST_SCALE
    assert last is not None
    # the largest scale that fits: the gradients overflow at twice of it
    assert FIRST_SCALE / factor <= last < FIRST_SCALE
    assert big.gradient_norm == pytest.approx(factor * small.gradient_norm, rel=1e-3)


def test_a_forward_pass_that_is_never_finite_ends_in_an_error(data: Path, model_config: ModelConfig) -> None:
    config = make_config(data, model_config, train={"precision": "fp16"})
    with accepted():
        engine, steps = start_engine(config)
    batches = next(steps)
    engine.parameters["encoder.1.attention_norm.bias"].weight.data[0] = float("nan")
    before = state_of(engine)
    scales = []
    for step in range(1, 30):
        text = complaint(engine, batches, step)
        if text:
            break
        scales.append(engine.loss_scale)
    assert scales == [FIRST_SCALE, *(FIRST_SCALE / 2**halvings for halvings in range(1, 17))]
    assert scales[-1] == 1
    assert text.startswith("step 18: encoder.1 is the first layer whose output is not finite; lower schedule.scale")
    assert changes(engine, before) == []


@given(
    seen=st.lists(st.booleans(), max_size=30), to_come=st.lists(st.booleans(), max_size=30), window=st.integers(1, 4)
)
def test_a_restored_loss_scale_does_what_the_first_one_would_have_done(
    seen: list[bool], to_come: list[bool], window: int
) -> None:
    """Steps that overflow or do not, on DeepSpeed's own scaler."""
    first, second = (
        SimpleNamespace(loss_scaler=DynamicLossScaler(FIRST_SCALE, window, 0.0, 2, False)) for _ in range(2)
    )
    with patch("deepspeed.comm.get_rank", return_value=1):  # it asks who shall tell of an overflow
        for overflow in seen:
            first.loss_scaler.update_scale(overflow)
        restore_loss_scale(second, loss_scale_state(first))
        for overflow in to_come:
            assert second.loss_scaler.loss_scale == first.loss_scaler.loss_scale
            for each in (first, second):
                each.loss_scaler.update_scale(overflow)
    assert loss_scale_state(second) == loss_scale_state(first)


def make_run(data: Path, model: ModelConfig, output: Path, steps: int) -> RunConfig:
    return make_config(
        data, model, loss={"decoder_weight": 20.0, "encoder_weight": 0.0},
        train={
            "output": output, "steps": steps, "precision": "fp16", "log_every": 3, "save_every": 3,
            "evaluate_every": 100, "evaluate_rows": 4,
        },
    )  # fmt: skip


def test_a_run_goes_on_with_its_loss_scale(
    data: Path, model_config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale rises after every third good step here, so that each of the steps hangs on its whole state."""

    def settings(config: RunConfig) -> dict[str, object]:
        written = deepspeed_settings(config)
        return written | {"fp16": {**written["fp16"], "loss_scale_window": 3}}

    monkeypatch.setattr(engine_module, "deepspeed_settings", settings)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    with accepted():
        train(make_run(data, model_config, straight, 18))
        for steps in (9, 12, 18):
            train(make_run(data, model_config, stopped, steps))
    assert_equal_runs(stopped, straight)
    lines = read_metrics(straight)
    skipped = [line["step"] for line in lines if line["train/skipped"]]
    assert [line["step"] for line in lines] == sorted({1, *range(3, 19, 3), *skipped})
    assert any(later > sooner + 1 for sooner, later in pairwise(skipped)), "the scale has risen, too"
    manifest = json.loads((straight / "checkpoints" / "step_00000018" / "manifest.json").read_text())
    assert manifest["optimizer_steps"] == 18 - len(skipped)
    assert manifest["loss_scale"]["scale"] == lines[-1]["train/loss_scale"] < FIRST_SCALE
    for line in lines:
        assert ("train/gradient_norm" in line) == (line["train/skipped"] == 0)
    assert "Infinity" not in (straight / "metrics.jsonl").read_text(), "which is no JSON"


def test_a_device_without_the_precision_is_named(
    data: Path, model_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda device: None)
    with pytest.raises(UserError) as caught:
        start_engine(make_config(data, model_config, train={"precision": "fp16"}))
    assert str(caught.value) == "train.precision = fp16: this device does not compute in it; make it fp32 or bf16"
