"""R-Drop on several ranks: the Triton kernels' dropout draws the same masks under each layout, so all is as on one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moments import merge_moments, steps_as_rank

from hzlm.config import ModelConfig, RunConfig
from hzlm.launch.processes import run_ranks

Write = Callable[[Path, Sequence[str]], Path]
STEP = 3
LAYOUTS: list[dict[str, Any]] = [
    {"pipe": 2},
    {"tensor": 2, "sequence_parallel": True},
    {"pipe": 2, "tensor": 2},
    {"data": 2},
]


def make_config(data: Path, parallel: dict[str, Any]) -> RunConfig:
    model = ModelConfig(
        hidden_size=64, heads=2, feed_forward_size=48, encoder_layers=1, decoder_layers=1, max_length=24, dropout=0.2
    )
    plan = {"steps": 5, "micro_batch_rows": 4 // parallel.get("data", 1), "accumulation": 2, "kernels": "triton"}
    values = {
        "model": model.model_dump(),
        "data": {"path": data, "row_length": 16, "views": {"pinyin": 1.0}},
        "loss": {"r_drop_weight": 0.7},
        "optimizer": {"gradient_clipping": 1e9},
        "schedule": {"scale": 1.0, "warmup_steps": 4},
        "train": {"output": data / "run"} | plan,
        "parallel": parallel | {"timeout_minutes": 3.0},
    }
    return RunConfig.model_validate(values, strict=False)


@pytest.mark.slow
def test_value_and_gradients_are_those_of_one_process(
    tmp_path: Path, write_dataset: Write, sentences: list[str]
) -> None:
    data = write_dataset(tmp_path / "data", sentences)
    ((alone,),) = run_ranks(steps_as_rank, 1, [make_config(data, {})], STEP)
    expected, wanted = alone.result.losses["r_drop"], merge_moments([alone.moments])
    assert expected.loss > 1e-3
    largest = max(float(np.linalg.norm(gradient)) for gradient in wanted.values())
    for parallel in LAYOUTS:
        config = make_config(data, parallel)
        ranks = [found for (found,) in run_ranks(steps_as_rank, config.parallel.processes, [config], STEP)]
        for rank in ranks:
            assert rank.result.losses["r_drop"].loss == pytest.approx(expected.loss, rel=1e-5), parallel
        merged = merge_moments([rank.moments for rank in ranks])
        assert merged.keys() == wanted.keys()
        for name, gradient in wanted.items():
            assert np.linalg.norm(merged[name] - gradient) <= 1e-5 * largest, (parallel, name)
