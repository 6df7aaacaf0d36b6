"""The contrastive loss and scheduled sampling on several ranks: value and every gradient as on one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moments import Taken, merge_moments, steps_as_rank, take_step

from hzlm.config import ModelConfig, RunConfig, SamplingConfig
from hzlm.launch.processes import run_ranks
from hzlm.model.losses import PartLoss

Write = Callable[[Path, Sequence[str]], Path]

GROUP_ROWS, ACCUMULATION = 4, 4
OBJECTIVES: dict[str, dict[str, Any]] = {
    "contrastive": {"loss": {"encoder_weight": 0.5, "contrastive_weight": 0.7, "temperature": 0.3}},
    "all inputs predicted": {"sampling": {"schedule": "linear", "half_steps": 1}},
}
STEP = 9
LAYOUTS = [
    pytest.param((1, 2, 1), {}, id="1x2x1"),
    pytest.param((1, 1, 2), {"sequence_parallel": True}, id="1x1x2, split rows"),
    pytest.param((2, 1, 2), {}, id="2x1x2"),
    pytest.param((2, 2, 2), {}, id="2x2x2"),
    pytest.param((2, 1, 1), {"schedule": "dualpipev"}, id="DualPipeV"),
]


def make_configs(data: Path, model: ModelConfig, parallel: dict[str, Any]) -> list[RunConfig]:
    return [
        RunConfig.model_validate(
            {
                "model": model.model_dump() | {"dropout": 0.0},
                "data": {"path": data, "row_length": 20, "views": {"masked": 1.0, "pinyin": 1.0}},
                "optimizer": {"gradient_clipping": 1e9},
                "schedule": {"scale": 1.0, "warmup_steps": 4},
                "train": {
                    "output": data / "run",
                    "steps": 5,
                    "micro_batch_rows": GROUP_ROWS // parallel.get("data", 1),
                    "accumulation": ACCUMULATION,
                },
                "parallel": parallel | {"timeout_minutes": 1.0},
                **objective,
            },
            strict=False,
        )
        for objective in OBJECTIVES.values()
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path_factory.mktemp("objectives") / "data", sentences)


@pytest.fixture(scope="module")
def alone(data: Path, model_config: ModelConfig) -> list[Taken]:
    return steps_as_rank(make_configs(data, model_config, {}), STEP)


def assert_equal_losses(ours: dict[str, PartLoss], theirs: dict[str, PartLoss]) -> None:
    assert ours.keys() == theirs.keys()
    for name, part in ours.items():
        expected = theirs[name]
        assert part == replace(expected, loss=pytest.approx(expected.loss, rel=1e-5)), name


@pytest.mark.parametrize(("layout", "extra"), LAYOUTS)
def test_every_layout_learns_and_measures_the_same(
    data: Path, model_config: ModelConfig, alone: list[Taken], layout: tuple[int, int, int], extra: dict[str, Any]
) -> None:
    pipe, parallel_data, tensor = layout
    parallel = {"pipe": pipe, "data": parallel_data, "tensor": tensor, **extra}
    found = run_ranks(steps_as_rank, pipe * parallel_data * tensor, make_configs(data, model_config, parallel), STEP)
    for number, one in enumerate(alone):
        for rank in found:
            assert_equal_losses(rank[number].result.losses, one.result.losses)
            assert_equal_losses(rank[number].measured, one.measured)
        merged = merge_moments([rank[number].moments for rank in found])
        gradients = merge_moments([one.moments])
        assert merged.keys() == gradients.keys()
        largest = max(float(np.linalg.norm(gradient)) for gradient in gradients.values())
        for name, gradient in gradients.items():
            assert np.linalg.norm(merged[name] - gradient) <= 1e-5 * largest, name


def test_the_objectives_are_not_nothing(alone: list[Taken], data: Path, model_config: ModelConfig) -> None:
    """There are sentences to tell apart, and what is predicted is not what is right."""
    contrastive, sampled = alone
    for losses in (contrastive.result.losses, contrastive.measured):
        assert losses["contrastive"].loss > 0.1
        assert losses["contrastive"].counted > 8
    config = make_configs(data, model_config, {})[1]
    taught = take_step(config.model_copy(update={"sampling": SamplingConfig()}), STEP)
    assert abs(sampled.result.losses["decoder"].loss - taught.result.losses["decoder"].loss) > 1e-3
