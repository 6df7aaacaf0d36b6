"""Which part of a logical tensor a parameter is. Initialisation, norms, LAMB and checkpoints all read this one fact."""

from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

from hzlm.parallel.mesh import Axis

P = TypeVar("P", bound=Tensor)


@dataclass(frozen=True)
class Sharding:
    """A parameter is the parts `pieces` of its logical tensor, cut along `dim`, one behind the other."""

    shape: tuple[int, ...]
    """Of the logical tensor."""
    dim: int
    pieces: tuple[tuple[int, int], ...]
    """(start, size) along `dim`."""

    def take(self, whole: Tensor) -> Tensor:
        """This part of the logical tensor."""
        return torch.cat([whole.narrow(self.dim, start, size) for start, size in self.pieces], self.dim)


def divide(total: int, axis: Axis) -> tuple[int, int]:
    """(start, size) of this rank's part of `total` things; the parts of any two ranks differ by one at most."""
    start, end = (total * index // axis.size for index in (axis.index, axis.index + 1))
    return start, end - start


def shard(parameter: P, sharding: Sharding) -> P:
    """Marks a parameter as a part of a logical tensor. One that is not marked is whole on every rank that has it."""
    parameter.__dict__["sharding"] = sharding
    return parameter


def sharding_of(parameter: Tensor) -> Sharding | None:
    """How a parameter is cut out of its logical tensor; None where it is whole."""
    sharding: Sharding | None = parameter.__dict__.get("sharding")
    return sharding


def logical_shape(parameter: Tensor) -> tuple[int, ...]:
    """The shape of the logical tensor that a parameter is, or is a part of."""
    sharding = sharding_of(parameter)
    return tuple(parameter.shape) if sharding is None else sharding.shape


def offsets(sharding: Sharding) -> list[int]:
    """Where each piece begins in the parameter, along `dim`."""
    sizes = [size for _, size in sharding.pieces]
    return list(accumulate(sizes[:-1], initial=0))
