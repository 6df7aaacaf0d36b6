"""The gradient of a step, read from what Adam's first moment keeps of it; importable in processes of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gradients import Array

from hzlm.config import RunConfig
from hzlm.data.batches import BatchReader
from hzlm.data.blend import Blend
from hzlm.model.losses import PartLoss
from hzlm.parallel.sharding import logical_shape, sharding_of
from hzlm.train.engine import Engine, StepResult
from hzlm.train.ranks import connect


@dataclass(frozen=True)
class Moment:
    """What a rank holds of the first moment of a logical tensor."""

    values: Array
    """Flat, from element `start` of the rank's part of the tensor."""
    start: int
    part: tuple[int, ...]
    """Shape of the rank's part."""
    shape: tuple[int, ...]
    """Of the logical tensor."""
    dim: int
    pieces: tuple[tuple[int, int], ...]
    """(start, size) along `dim`."""


Moments = dict[str, Moment]


@dataclass(frozen=True)
class Taken:
    """What one step and a measurement after it say."""

    result: StepResult
    measured: dict[str, PartLoss]
    """On the dev split, with as many empty micro-batches as the layout asks for."""
    moments: Moments


def steps_as_rank(configs: Sequence[RunConfig], step: int) -> list[Taken]:
    """One step of a new engine for each config, on the first rows of its data; the same `parallel` in all."""
    return [take_step(config, step) for config in configs]


def take_step(config: RunConfig, step: int) -> Taken:
    """Without clipping the first moment is then (1 - beta) times the gradient."""
    mesh = connect(config.parallel)
    blend = Blend.open(config.data, "train")
    reader = BatchReader(blend, config.data, config.train.seed, mesh, config.pairing)
    batches = next(reader.steps(0, config.train.micro_batch_rows, config.train.accumulation)).micro_batches
    engine = Engine(config, blend.vocabulary, mesh)
    result = engine.train_step(batches, step, 0.0)
    dev = BatchReader(Blend.open(config.data, "dev"), config.data, 0, mesh, config.pairing)
    rows = config.train.micro_batch_rows
    measured = engine.evaluate(dev.one_pass(rows, limit=9, at_least=config.parallel.stage_count + 2))
    found = {}
    for name, state in engine.parameters.items():
        sharding = sharding_of(state.weight)
        shape = logical_shape(state.weight)
        dim, pieces = (0, ((0, shape[0]),)) if sharding is None else (sharding.dim, sharding.pieces)
        part = tuple(state.weight.shape)
        found[name] = Moment(state.exp_avg.clone().numpy(), state.start, part, shape, dim, pieces)
    return Taken(result, measured, found)


def merge_moments(ranks: Sequence[Moments]) -> dict[str, Array]:
    """The logical tensors that the ranks hold together."""
    wholes: dict[str, Array] = {}
    for moments in ranks:
        for name, moment in moments.items():
            whole = wholes.setdefault(name, np.full(moment.shape, np.nan))
            flat = np.full(int(np.prod(moment.part)), np.nan)
            flat[moment.start : moment.start + len(moment.values)] = moment.values
            part, place = flat.reshape(moment.part), 0
            for start, size in moment.pieces:
                into: list[slice] = [slice(None)] * whole.ndim
                into[moment.dim] = slice(start, start + size)
                piece = part.take(range(place, place + size), axis=moment.dim)
                whole[tuple(into)] = np.where(np.isnan(piece), whole[tuple(into)], piece)
                place += size
    return wholes
