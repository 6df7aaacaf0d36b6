"""Logical tensors in pieces: where what a rank holds lies in them, and how they are made whole again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

import torch
from torch import Tensor

from hzlm.parallel.sharding import Sharding

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Offset and size along each dimension."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a box of a logical tensor, the box flattened row by row."""

    offset: tuple[int, ...]
    """Of the box, along each dimension."""
    size: tuple[int, ...]
    """Of the box, along each dimension."""
    start: int
    """The first element of the stretch in the flattened box."""
    numel: int

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Piece":
        """From the entry of a manifest, which has these fields among others."""
        return cls(tuple(entry["offset"]), tuple(entry["size"]), entry["start"], entry["numel"])

    @property
    def shape(self) -> tuple[int, ...]:
        """As it is stored: a whole box in its own shape, any other stretch flat."""
        return self.size if self.numel == prod(self.size) else (self.numel,)


def locate(shape: tuple[int, ...], sharding: Sharding | None, start: int, numel: int) -> list[Piece]:
    """Where a stretch of a flattened parameter lies in its logical tensor.

    Args:
        shape: of the logical tensor.
        sharding: of the parameter.
        start, numel: the stretch.

    Returns:
        The pieces that it consists of, one behind the other: at most one a box of the sharding, none of them empty.

    Raises:
        ValueError: the parameter has several boxes that do not lie one behind the other in its memory.
    """
    pieces = []
    begin = 0
    for offset, size in _boxes(shape, sharding):
        end = begin + prod(size)
        low, high = max(start, begin), min(start + numel, end)
        if low < high:
            pieces.append(Piece(offset, size, low - begin, high - low))
        begin = end
    return pieces


def fault_of(shape: Sequence[int], pieces: Sequence[Piece]) -> str | None:
    """Why pieces do not make up a logical tensor of this shape; None where they cover every element just once."""
    boxes: dict[Box, list[Piece]] = {}
    for piece in pieces:
        if not _is_inside(shape, piece):
            return "a piece lies outside of it"
        boxes.setdefault((piece.offset, piece.size), []).append(piece)
    for (_, size), stretches in boxes.items():
        reached = 0
        for piece in sorted(stretches, key=lambda piece: piece.start):
            if piece.start != reached:
                return _HOLE if piece.start > reached else _OVERLAP
            reached += piece.numel
        if reached < prod(size):
            return _HOLE
    if any(_overlap(one, other) for one, other in combinations(boxes, 2)):
        return _OVERLAP
    return _HOLE if sum(prod(size) for _, size in boxes) < prod(shape) else None


def join(shape: Sequence[int], parts: Iterable[tuple[Piece, Tensor]]) -> Tensor:
    """The logical tensor of pieces in which `fault_of` finds no fault, each with its values."""
    boxes: dict[Box, dict[int, Tensor]] = {}
    for piece, values in parts:
        boxes.setdefault((piece.offset, piece.size), {})[piece.start] = values.flatten()
    joined = {box: torch.cat([stretches[start] for start in sorted(stretches)]) for box, stretches in boxes.items()}
    whole = torch.empty(tuple(shape), dtype=next(iter(joined.values())).dtype)
    for (offset, size), values in joined.items():
        corner = tuple(slice(first, first + length) for first, length in zip(offset, size, strict=True))
        whole[corner] = values.view(size)
    return whole


_HOLE = "its pieces leave a hole"
_OVERLAP = "its pieces overlap"


def _boxes(shape: tuple[int, ...], sharding: Sharding | None) -> list[Box]:
    """The boxes of a parameter, in the order of its memory; neighbours are one."""
    if sharding is None:
        return [((0,) * len(shape), shape)]
    merged: list[tuple[int, int]] = []
    for start, size in sharding.pieces:
        if merged and sum(merged[-1]) == start:
            merged[-1] = (merged[-1][0], merged[-1][1] + size)
        else:
            merged.append((start, size))
    dim = sharding.dim
    if len(merged) > 1 and dim != 0:
        raise ValueError(
            f"a parameter of several pieces along dimension {dim}; that can be stored for dimension 0 only"
        )
    before, after = shape[:dim], shape[dim + 1 :]
    return [((0,) * dim + (start,) + (0,) * len(after), (*before, size, *after)) for start, size in merged]


def _is_inside(shape: Sequence[int], piece: Piece) -> bool:
    if not len(shape) == len(piece.offset) == len(piece.size):
        return False
    edges = zip(shape, piece.offset, piece.size, strict=True)
    within = all(offset >= 0 and size > 0 and offset + size <= length for length, offset, size in edges)
    return within and piece.start >= 0 and piece.numel > 0 and piece.start + piece.numel <= prod(piece.size)


def _overlap(one: Box, other: Box) -> bool:
    edges = zip(*one, *other, strict=True)
    return all(offset < start + length and start < offset + size for offset, size, start, length in edges)
