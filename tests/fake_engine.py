"""An engine without training: it holds the state of any layout, and one process plays all of its ranks."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn

from hzlm.config import ModelConfig
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.parallel.mesh import ALONE, Axis, Mesh
from hzlm.parallel.random import derive_seed, make_generator
from hzlm.parallel.sharding import Sharding, divide, shard
from hzlm.train import agreement
from hzlm.train.engine import Engine, ParameterState
from hzlm.vocabulary import Vocabulary

T = TypeVar("T")
KINDS = ("weights", "masters", "exp_avg", "exp_avg_sq")
"""What every engine holds; one with averages holds those too."""


def logical_tensor(kind: str, name: str, shape: tuple[int, ...]) -> Tensor:
    """What the engine is filled with: other numbers in every tensor; the weights are bfloat16."""
    values = torch.rand(shape, generator=make_generator(kind, name))
    return values.bfloat16() if kind == "weights" else values


def logical_shapes(config: ModelConfig, vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
    """Every logical tensor of a model."""
    with torch.device("meta"):
        model = EncoderDecoder(config, vocabulary.size, vocabulary.target_start)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def play_ranks(pipe: int, data: int, tensor: int, action: Callable[[Mesh], T]) -> list[T | Exception]:
    """What an action returns or raises on each rank of a layout, each a thread of this process."""
    sizes = (pipe, data, tensor)
    world = pipe * data * tensor
    barrier = threading.Barrier(world)
    told: list[Any] = [None] * world
    outcomes: list[T | Exception] = [RuntimeError("it has not ended")] * world

    def gather(value: Any, axis: Axis) -> list[Any]:
        assert axis.size == world
        told[axis.index] = value
        barrier.wait(timeout=20)
        found = list(told)
        barrier.wait(timeout=20)
        return found

    def run(rank: int) -> None:
        place = (rank // (data * tensor), rank // tensor % data, rank % tensor)
        axes = [Axis(size, index) for size, index in zip(sizes, place, strict=True)]
        stage = Axis(data * tensor, rank % (data * tensor))
        try:
            outcomes[rank] = action(Mesh(*axes, stage=stage, world=Axis(world, rank)))
        except Exception as error:
            outcomes[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    with patch.object(agreement, "gather_objects", gather):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


class FakeEngine:
    """Holds what one rank of a layout would.

    Which dimension of a tensor is split, and where the partitions of the data-parallel ranks begin, is drawn by a seed:
    partitions go over the borders of tensors, and may be empty.
    """

    def __init__(
        self, config: ModelConfig, vocabulary: Vocabulary, mesh: Mesh = ALONE, seed: int = 0, averaged: bool = False
    ):
        self.mesh = mesh
        self.kinds = (*KINDS, "averages") if averaged else KINDS
        self.optimizer_steps = 0
        self.loss_scale: dict[str, float | int] | None = None
        self.parameters: dict[str, ParameterState] = {}
        held = self._stage(logical_shapes(config, vocabulary))
        weights = {}
        for name, shape in held.items():
            sharding = self._sharding(name, shape, vocabulary, seed)
            whole = torch.zeros(shape, dtype=torch.bfloat16)
            if sharding is None:
                weights[name] = nn.Parameter(whole)
            else:
                weights[name] = shard(nn.Parameter(sharding.take(whole)), sharding)
        total = sum(weight.numel() for weight in weights.values())
        generator = make_generator(seed, "borders", mesh.pipe.index, mesh.tensor.index)
        drawn = torch.randint(total + 1, (mesh.data.size - 1,), generator=generator).tolist()
        low, high = sorted([0, *drawn, total])[mesh.data.index : mesh.data.index + 2]
        flats = [torch.zeros(high - low) for _ in self.kinds[1:]]
        begin = 0
        for name, weight in weights.items():
            first, last = (min(max(edge - begin, 0), weight.numel()) for edge in (low, high))
            own = [flat[max(begin - low, 0) :][: last - first] for flat in flats]
            self.parameters[name] = ParameterState(weight, first, *own)
            begin += weight.numel()

    @property
    def engine(self) -> Engine:
        """Itself, as those see it that are given an engine."""
        return cast(Engine, self)

    def fill(self) -> "FakeEngine":
        """Puts in what `logical_tensor` says; returns itself."""
        for _, _, own, expected in self._compared():
            own.data.copy_(expected)
        self.optimizer_steps = 17
        self.loss_scale = {"scale": 1024.0, "good_steps": 3}
        return self

    def differences(self, kinds: tuple[str, ...], source: str | None = None) -> list[tuple[str, str]]:
        """Where it does not hold what `fill` puts in; source: what it puts into this kind instead."""
        return [
            (kind, name)
            for name, kind, own, expected in self._compared(source)
            if kind in kinds and not own.equal(expected)
        ]

    def loss_scale_state(self) -> dict[str, float | int] | None:
        """As the engine."""
        return self.loss_scale

    def restore(self, optimizer_steps: int | None = None, loss_scale: dict[str, float | int] | None = None) -> None:
        """As the engine, but for the weights."""
        if optimizer_steps is not None:
            self.optimizer_steps, self.loss_scale = optimizer_steps, loss_scale

    def _compared(self, source: str | None = None) -> list[tuple[str, str, Tensor, Tensor]]:
        """(name, kind, what it holds, what `fill` puts there)."""
        found = []
        for name, state in self.parameters.items():
            sharding = state.weight.__dict__.get("sharding")
            shape = tuple(state.weight.shape) if sharding is None else sharding.shape
            for kind in self.kinds:
                whole = logical_tensor(source or kind, name, shape)
                expected = whole if sharding is None else sharding.take(whole)
                if kind == "weights":
                    found.append((name, kind, state.weight.data, expected))
                else:
                    own = getattr(state, kind)
                    found.append((name, kind, own, expected.flatten()[state.start : state.start + own.numel()]))
        return found

    def _stage(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """The tensors of this stage: the first one begins with the token table, and the last one has it too."""
        names = sorted(shapes, key=lambda name: name != "tokens.weight")
        start, size = divide(len(names), self.mesh.pipe)
        held = names[start : start + size]
        if self.mesh.pipe.index == self.mesh.pipe.size - 1 and "tokens.weight" not in held:
            held.append("tokens.weight")
        return {name: shapes[name] for name in held}

    def _sharding(self, name: str, shape: tuple[int, ...], vocabulary: Vocabulary, seed: int) -> Sharding | None:
        tensor = self.mesh.tensor
        if name == "tokens.weight":
            targets, target_size = divide(vocabulary.target_size, tensor)
            pieces = (divide(vocabulary.target_start, tensor), (vocabulary.target_start + targets, target_size))
            return Sharding(shape, 0, pieces)
        dim = derive_seed(seed, name) % (len(shape) + 1) - 1
        return None if dim < 0 else Sharding(shape, dim, (divide(shape[dim], tensor),))
