"""The contrastive loss and scheduled sampling on several ranks: value and every gradient as on one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moments import merge_moments, steps_as_rank, take_step

from hzlm.config import ModelConfig, RunConfig, SamplingConfig
from hzlm.launch.processes import run_ranks

Write = Callable[[Path, Sequence[str]], Path]

GROUP_ROWS, ACCUMULATION = 4, 2
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
def alone(data: Path, model_config: ModelConfig) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Losses by part and gradients by name, of one process."""
    found = steps_as_rank(make_configs(data, model_config, {}), STEP)
    return [(vars_of(result.losses), merge_moments([moments])) for result, moments in found]


def vars_of(losses: dict[str, Any]) -> dict[str, Any]:
    return {name: (part.loss, part.correct, part.counted) for name, part in losses.items()}


@pytest.mark.parametrize(("layout", "extra"), LAYOUTS)
def test_every_layout_learns_the_same(
    data: Path,
    model_config: ModelConfig,
    alone: list[tuple[dict[str, Any], dict[str, np.ndarray]]],
    layout: tuple[int, int, int],
    extra: dict[str, Any],
) -> None:
    pipe, parallel_data, tensor = layout
    parallel = {"pipe": pipe, "data": parallel_data, "tensor": tensor, **extra}
    found = run_ranks(steps_as_rank, pipe * parallel_data * tensor, make_configs(data, model_config, parallel), STEP)
    for number, (losses, gradients) in enumerate(alone):
        for rank in found:
            ours = vars_of(rank[number][0].losses)
            assert ours.keys() == losses.keys()
            for name, (loss, correct, counted) in ours.items():
                assert (loss, correct, counted) == (pytest.approx(losses[name][0], rel=1e-5), *losses[name][1:]), name
        merged = merge_moments([rank[number][1] for rank in found])
        assert merged.keys() == gradients.keys()
        largest = max(float(np.linalg.norm(gradient)) for gradient in gradients.values())
        for name, gradient in gradients.items():
            assert np.linalg.norm(merged[name] - gradient) <= 1e-5 * largest, name


def test_the_objectives_are_not_nothing(
    alone: list[tuple[dict[str, Any], dict[str, np.ndarray]]], data: Path, model_config: ModelConfig
) -> None:
    """There are sentences to tell apart, and what is predicted is not what is right."""
    (contrastive, _), (sampled, _) = alone
    loss, _, sentences = contrastive["contrastive"]
    assert loss > 0.1
    assert sentences > 8
    config = make_configs(data, model_config, {})[1]
    taught, _ = take_step(config.model_copy(update={"sampling": SamplingConfig()}), STEP)
    assert abs(sampled["decoder"][0] - taught.losses["decoder"].loss) > 1e-3
