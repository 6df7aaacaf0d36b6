"""What a rank tells the others in one training step, by formula: every call and every byte.

R rows of L positions in a micro-batch, W the hidden size, T tensor-parallel ranks; one side (source or target) of the
hidden state of a micro-batch has H = R L W numbers. A call on a group of one rank, which DeepSpeed makes too, sends
nothing and is not counted.

Tensor-parallel ranks, each micro-batch: an all-reduce of 2H at the embedding (forward); of H at the entry (backward)
and at the end (forward) of each attention and each feed-forward, behind the encoder and before the output projection
(backward). With split rows an all-gather takes the place of each entry forward and a reduce-scatter that of each
end, backward the other way round, and a decoder block gathers the memory too. For each 512 targets of a side an
all-gather of 4 float32 a target (5 with label smoothing): the cross entropy.

Neighbouring stages, each micro-batch: 2H and R L int32 of segments forward, 2H backward.

Each step: first and last stage sum the token table's gradient; data-parallel ranks sum five counts of their batches and
all gradients, and gather the weights (ZeRO stage 1); all ranks sum three float64 a logical tensor (LAMB), the norm, and
the losses.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import torch

from hzlm.config import RunConfig
from hzlm.kernels.linear_cross_entropy import POSITIONS_AT_ONCE
from hzlm.parallel.mesh import Mesh
from hzlm.tools.plan.channels import Channel, Volume
from hzlm.train.engine import BUCKET

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Holding:
    """What a rank holds of the model."""

    layers: Sequence[str]
    """Names of its layers."""
    groups: Sequence[Sequence[int]]
    """Elements of its parameters, in the order and the two groups of the optimizer: matrices, vectors."""
    whole: Sequence[int]
    """Elements of those parameters that its tensor-parallel ranks hold alike."""
    table: int
    """Elements of its part of the token table."""
    tensors: int
    """Logical tensors of the whole model."""


@dataclass(frozen=True)
class Place:
    """The coordinates of a rank, and from them the groups that it is in."""

    sizes: tuple[int, int, int]
    """Pipe, data, tensor."""
    index: tuple[int, int, int]

    @classmethod
    def of(cls, mesh: Mesh) -> "Place":
        """From the mesh of a rank that runs."""
        axes = (mesh.pipe, mesh.data, mesh.tensor)
        return cls(tuple(axis.size for axis in axes), tuple(axis.index for axis in axes))  # type: ignore[arg-type]

    def rank(self, pipe: int, data: int, tensor: int) -> int:
        """The global number of a rank."""
        return (pipe * self.sizes[1] + data) * self.sizes[2] + tensor

    def along(self, *directions: int) -> tuple[int, ...]:
        """The ranks that differ from this one in these directions only."""
        at = zip(self.sizes, self.index, strict=True)
        ranges = [range(size) if axis in directions else (own,) for axis, (size, own) in enumerate(at)]
        return tuple(self.rank(pipe, data, tensor) for pipe in ranges[0] for data in ranges[1] for tensor in ranges[2])

    @property
    def number(self) -> int:
        """The global number of this rank."""
        return self.rank(*self.index)


def step_traffic(
    config: RunConfig, place: Place, holding: Holding, targets: Sequence[Mapping[str, int]]
) -> dict[Channel, Volume]:
    """What one rank communicates to read the batches of a step and in `Engine.train_step`, without `train.checks`.

    Args:
        config: of the run.
        place: of the rank.
        holding: of the rank.
        targets: of each micro-batch of this rank, the targets of each side ("encoder", "decoder") that has a loss.
    """
    volumes: dict[Channel, Volume] = {}
    for channel, volume in _all(config, place, holding, targets):
        if len(channel.ranks) > 1 and volume.calls:
            volumes[channel] = volumes.get(channel, Volume(0, 0)) + volume
    return volumes


def count_places(config: RunConfig) -> int:
    """R L: the positions of a micro-batch."""
    return config.train.micro_batch_rows * config.data.row_length


def hidden_bytes(config: RunConfig) -> int:
    """H, in bytes."""
    return count_places(config) * config.model.hidden_size * DTYPES[config.train.precision].itemsize


def count_shares(config: RunConfig) -> int:
    """Of how many ranks each has a part of the rows outside attention and feed-forward."""
    return config.parallel.tensor if config.parallel.sequence_parallel else 1


def _all(
    config: RunConfig, place: Place, holding: Holding, targets: Sequence[Mapping[str, int]]
) -> Iterator[tuple[Channel, Volume]]:
    for micro_batch in targets:
        yield from _tensor(config, place, holding, micro_batch)
        yield from _pipe(config, place)
    yield from _step(config, place, holding)


def _tensor(
    config: RunConfig, place: Place, holding: Holding, targets: Mapping[str, int]
) -> Iterator[tuple[Channel, Volume]]:
    dtype = DTYPES[config.train.precision]
    split = config.parallel.sequence_parallel
    hidden = hidden_bytes(config)
    entries, ends = _border_passes(config, holding, targets)
    ranks = place.along(2)
    kinds = ("all_gather", "reduce_scatter")
    if split:  # an entry gathers forward and scatters backward, an end the other way round
        for passes, operations in ((entries, kinds), (ends, kinds[::-1])):
            for passed, operation in zip(passes, operations, strict=True):
                yield Channel(operation, ranks, dtype), Volume(passed.calls, passed.payload * hidden)
    else:  # an entry is silent forward, an end backward
        for passed in (entries[1], ends[0]):
            yield Channel("all_reduce", ranks, dtype), Volume(passed.calls, passed.payload * hidden)
    if _has_loss(config, place):
        scores = 5 if config.loss.label_smoothing > 0 else 4
        for count in targets.values():
            calls = ceil(count / POSITIONS_AT_ONCE)
            yield Channel("all_gather", ranks, torch.float32), Volume(calls, place.sizes[2] * scores * count * 4)


def _border_passes(
    config: RunConfig, holding: Holding, targets: Mapping[str, int]
) -> tuple[tuple[Volume, Volume], tuple[Volume, Volume]]:
    """How often, forward and backward, `enter` and `leave` are passed; payloads in units of one side."""
    split = config.parallel.sequence_parallel
    whole = config.parallel.recompute == "whole"
    entries = [0, 0]
    ends = [0, 0]
    embedding = 0
    for name in holding.layers:
        kind = name.partition(".")[0]
        if kind == "positions":  # the token table, which the last stage holds too, embeds beside it
            embedding = 1
        elif kind == "encoder_norm" and not split:
            entries = [entries[0] + 1, entries[1] + 1]
        elif kind in ("encoder", "decoder"):
            parts = 2 if kind == "encoder" else 3
            entered = parts + (1 if kind == "decoder" and split else 0)
            # recomputation stops at the last tensor that is kept: with dropout that lies behind the last end
            again_entered = entered if whole else 0
            again_left = parts - (0 if config.model.dropout > 0 else 1) if whole else 0
            entries = [entries[0] + entered + again_entered, entries[1] + entered]
            ends = [ends[0] + parts + again_left, ends[1] + parts]
    if "decoder_norm" in holding.layers:
        sides = sum(1 for side in targets if split or side == "decoder")
        entries = [entries[0] + sides, entries[1] + sides]
    left = [Volume(count + embedding, count + 2 * embedding) for count in ends]
    return (Volume(entries[0], entries[0]), Volume(entries[1], entries[1])), (left[0], left[1])


def _pipe(config: RunConfig, place: Place) -> Iterator[tuple[Channel, Volume]]:
    """What crosses the borders of this rank's stage: with DualPipeV each border twice."""
    dtype = DTYPES[config.train.precision]
    hidden = Volume(1, 2 * hidden_bytes(config) // count_shares(config))
    segments = Volume(1, count_places(config) * 4)
    pipe, data, tensor = place.index
    own = place.number
    neighbours = {step: place.rank(pipe + step, data, tensor) for step in (1, -1) if 0 <= pipe + step < place.sizes[0]}
    passes = (1, -1) if config.parallel.schedule == "dualpipev" else (1,)
    for step, other in neighbours.items():
        for direction in passes:
            ahead = step == direction
            yield Channel("send", (own, other), dtype), hidden
            yield Channel("recv", (other, own), dtype), hidden
            there = Channel("send", (own, other), torch.int32) if ahead else Channel("recv", (other, own), torch.int32)
            yield there, segments


def _step(config: RunConfig, place: Place, holding: Holding) -> Iterator[tuple[Channel, Volume]]:
    precision = config.train.precision
    dtype = DTYPES[precision]
    data, world, model = place.along(1), place.along(0, 1, 2), place.along(0, 2)
    sizes = [size for group in holding.groups for size in group]
    one, number = Volume(1, 4), torch.float32
    # gradients of what is tied, and with split rows of what the tensor-parallel ranks hold alike
    tied = place.along(0)
    tied = (tied[0], tied[-1]) if len(tied) > 1 else tied
    if place.index[0] in (0, place.sizes[0] - 1) and config.parallel.schedule == "1f1b":
        yield Channel("all_reduce", tied, dtype), Volume(1, holding.table * dtype.itemsize)
    if config.parallel.sequence_parallel:
        for size in holding.whole:
            yield Channel("all_reduce", place.along(2), dtype), Volume(1, size * dtype.itemsize)
    yield Channel("all_reduce", data, dtype), Volume(_buckets(sizes), sum(sizes) * dtype.itemsize)
    if precision != "fp32":  # whether a gradient is not finite
        yield Channel("all_reduce", data, torch.uint8), Volume(1, 1)
        yield Channel("all_reduce", model, torch.uint8), Volume(1, 1)
    for group in holding.groups:
        yield Channel("all_reduce", data, number), one
        yield Channel("all_reduce", model, number), one
        padded = ceil(sum(group) / (2 * len(data))) * 2 * len(data)
        yield Channel("all_gather", data, dtype), Volume(1, padded * dtype.itemsize)
    if config.optimizer.name == "lamb" or config.optimizer.weight_decay > 0:
        yield Channel("all_reduce", world, torch.float64), Volume(1, holding.tensors * 3 * 8)
    yield Channel("all_reduce", data, torch.float64), Volume(1, 5 * 8)  # what the batches of all ranks hold
    sides = (config.loss.encoder_weight > 0) + (config.loss.decoder_weight > 0)
    yield Channel("all_reduce", world, torch.float64), Volume(1, sides * 4 * 8)  # losses and counts, for the log
    if _has_loss(config, place):
        yield Channel("all_reduce", data, number), one
    yield Channel("broadcast", place.along(0), number), Volume(1, 8)


def _has_loss(config: RunConfig, place: Place) -> bool:
    return place.index[0] == (place.sizes[0] - 1 if config.parallel.schedule == "1f1b" else 0)


def _buckets(sizes: Sequence[int]) -> int:
    """How many sums the gradients are reduced in: a bucket is closed by what would overflow it."""
    buckets, filled = 0, 0
    for size in sizes:
        if filled and filled + size > BUCKET:
            buckets, filled = buckets + 1, 0
        filled += size
    return buckets + (filled > 0)
