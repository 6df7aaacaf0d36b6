"""The training benchmark: its plain loop is the engine's training, and its last line holds what it promises."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.batches import BatchReader
from hzlm.data.blend import Blend
from hzlm.errors import UserError
from hzlm.tools.bench.plain import PlainLoop
from hzlm.tools.bench.train import bench_train
from hzlm.train.engine import Engine
from hzlm.train.ranks import connect


@pytest.fixture
def config(
    tmp_path: Path,
    write_dataset: Callable[[Path, Sequence[str]], Path],
    sentences: list[str],
    model_config: ModelConfig,
) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": model_config.model_dump(),
            "data": {
                "path": write_dataset(tmp_path / "data", sentences), "row_length": 24, "views": {"pinyin": 1.0}
            },
            "schedule": {"scale": 1.0, "warmup_steps": 1},
            "train": {
                "output": tmp_path / "run", "steps": 1, "micro_batch_rows": 8, "precision": "bf16"
            },
        },
        strict=False,
    )  # fmt: skip


def test_the_plain_loop_trains_as_the_engine_does(config: RunConfig) -> None:
    blend = Blend.open(config.data, "train")
    engine, plain = Engine(config, blend.vocabulary, connect(config.parallel)), PlainLoop(config, blend.vocabulary)
    before = [master.detach().clone() for master in plain._masters]
    steps = BatchReader(blend, config.data, 1).steps(0, 8, 1)
    for step in range(1, 4):
        batch = next(steps)
        engine.train_step(batch.micro_batches, step, 1e-2)
        plain.step(batch.micro_batches[0], 1e-2)
    ours = {name: state.masters for name, state in engine.parameters.items()}
    for (name, _), start, master in zip(plain._model.named_parameters(), before, plain._masters, strict=True):
        if name.endswith("key.bias"):
            continue  # its true gradient is zero, so its update is rounding
        moved = (master - start).flatten()
        # gradients are summed in bf16 in either, but not in the same order
        assert torch.nn.functional.cosine_similarity(moved, ours[name] - start.flatten(), dim=0) > 0.97, name


def test_the_last_line_holds_the_figures(config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    bench_train(config, rounds=1, steps=1)
    *table, last = capsys.readouterr().out.splitlines()
    figures = json.loads(last)
    assert figures.keys() == {"vs_hf", "vs_hf_bf16_weights", "gemm_share", "engine_overhead", "tokens_per_s"}
    rows = {line.split("  ")[0].strip(): line for line in table}
    ours, theirs = (float(rows[name].split()[-5].replace(",", "")) for name in ("hzlm", "Blenderbot, bf16 autocast"))
    assert figures["vs_hf"] == pytest.approx(ours / theirs, rel=0.02)
    assert figures["tokens_per_s"] == pytest.approx(ours, abs=1)
    assert 0 < figures["gemm_share"] < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": {"precision": "fp32"}}, "train.precision is fp32, but what is compared is bf16"),
        ({"data": {"views": {"toned": 1.0}}}, "data.views are toned, but what is compared is pinyin"),
        ({"data": {"path": {Path("a"): 1.0, Path("b"): 1.0}}}, "data.path names 2 datasets, but what is compared"),
        ({"train": {"accumulation": 2}}, "train.accumulation is 2, but what is compared is 1"),
        ({"model": {"aligned": True}}, "model.aligned is on, which Hugging Face's Blenderbot does not have"),
    ],
)
def test_what_is_not_compared_is_refused(config: RunConfig, change: dict[str, dict[str, object]], message: str) -> None:
    ((section, fields),) = change.items()
    changed = getattr(config, section).model_copy(update=fields)
    with pytest.raises(UserError, match=message):
        bench_train(config.model_copy(update={section: changed}))
