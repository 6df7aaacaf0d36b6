"""Small engines, alone or on the ranks of a layout, and what their steps say; importable in processes of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.batches import BatchReader, MicroBatch
from hzlm.data.blend import Blend
from hzlm.errors import UserError, is_shared
from hzlm.train.engine import Engine
from hzlm.train.ranks import connect

Layout = tuple[int, int, int]
"""Processes: pipe, data, tensor."""
STEP_ROWS = 4
RATE = 0.01


def make_config(data: Path, model: ModelConfig, layout: Layout = (1, 1, 1), **sections: dict[str, Any]) -> RunConfig:
    """A run whose steps have the same four rows under each layout, in micro-batches of one row."""
    pipe, parallel_data, tensor = layout
    values: dict[str, dict[str, Any]] = {
        "model": model.model_dump(),
        "data": {"path": data, "row_length": 20, "views": {"masked": 1.0, "pinyin": 1.0}},
        "loss": {"encoder_weight": 0.5},
        "schedule": {"scale": 1.0, "warmup_steps": 4},
        "train": {
            "output": data / "run",
            "steps": 5,
            "micro_batch_rows": 1,
            "accumulation": STEP_ROWS // parallel_data,
        },
        "parallel": {"pipe": pipe, "data": parallel_data, "tensor": tensor, "timeout_minutes": 1.0},
    }
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes
    return RunConfig.model_validate(values, strict=False)


def start_engine(config: RunConfig) -> tuple[Engine, Iterator[list[MicroBatch]]]:
    """This rank's engine, and the micro-batches of its steps; a collective call of all ranks of the layout."""
    mesh = connect(config.parallel)
    blend = Blend.open(config.data, "train")
    reader = BatchReader(blend, config.data, config.train.seed, mesh)
    steps = reader.steps(0, config.train.micro_batch_rows, config.train.accumulation)
    return Engine(config, blend.vocabulary, mesh), (step.micro_batches for step in steps)


def complaint(engine: Engine, batches: list[MicroBatch], step: int) -> str:
    """What a step says on this rank, all ranks having to say it; empty where nothing is wrong."""
    try:
        engine.train_step(batches, step, RATE)
    except UserError as error:
        return str(error) if is_shared(error) else f"on this rank alone: {error}"
    return ""


def state_of(engine: Engine) -> dict[str, Tensor]:
    """A copy of all that training changes on this rank."""
    found = {}
    for name, state in engine.parameters.items():
        found[f"weight of {name}"] = state.weight.detach().clone()
        for kind in ("masters", "exp_avg", "exp_avg_sq"):
            found[f"{kind} of {name}"] = getattr(state, kind).clone()
    return found


def changes(engine: Engine, before: dict[str, Tensor]) -> list[str]:
    """What is not, bit by bit, as `state_of` has found it."""
    now = state_of(engine)
    assert now.keys() == before.keys()
    return [name for name in now if not torch.equal(now[name].view(torch.uint8), before[name].view(torch.uint8))]
