"""Gradients that ranks have parts of, and the whole that these are together; importable in processes of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from hzlm.parallel.sharding import logical_shape, sharding_of

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Part:
    """What a rank has of a gradient."""

    gradient: Array
    shape: tuple[int, ...]
    """Of the logical tensor."""
    dim: int | None
    """Along which it is cut; None where the rank's parameter is whole."""
    pieces: tuple[tuple[int, int], ...]
    """(start, size) along `dim`."""


def part_of(parameter: nn.Parameter, gradient: Tensor | None = None) -> Part:
    """The gradient of a parameter, where no other one is given."""
    found = parameter.grad if gradient is None else gradient
    assert found is not None
    sharding = sharding_of(parameter)
    dim, pieces = (None, ()) if sharding is None else (sharding.dim, sharding.pieces)
    return Part(found.numpy(), logical_shape(parameter), dim, pieces)


def put_together(parts: Sequence[Part], are_summands: bool = False) -> Array:
    """The gradient of a logical tensor, from the parts of all tensor-parallel ranks.

    Where parameters are whole, all ranks must have the same gradient bit for bit, or the weights would drift apart.

    Args:
        parts: by rank.
        are_summands: whether the gradient of a parameter that is whole is still to be summed over the ranks.
    """
    first = parts[0]
    if first.dim is None and are_summands:
        return np.sum([part.gradient for part in parts], axis=0)
    if first.dim is None:
        for part in parts:
            np.testing.assert_array_equal(part.gradient, first.gradient)
        return first.gradient
    whole = np.full(first.shape, np.nan)
    for part in parts:
        start = 0
        for place, size in part.pieces:
            into: list[slice] = [slice(None)] * whole.ndim
            into[first.dim] = slice(place, place + size)
            whole[tuple(into)] = part.gradient.take(range(start, start + size), axis=first.dim)
            start += size
    return whole
