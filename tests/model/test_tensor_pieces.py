"""Logical tensors in pieces, against counting every element."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hzlm.model.tensor_pieces import Piece, fault_of, join, locate
from hzlm.parallel.sharding import Sharding

Shape = tuple[int, ...]


@st.composite
def borders(draw: st.DrawFn, total: int, parts: int) -> list[tuple[int, int]]:
    """(start, size) of parts, some of them empty."""
    drawn = draw(st.lists(st.integers(0, total), min_size=parts - 1, max_size=parts - 1))
    edges = [0, *sorted(drawn), total]
    return [(low, high - low) for low, high in pairwise(edges)]


@st.composite
def shardings(draw: st.DrawFn) -> tuple[Shape, list[Sharding]]:
    """A tensor as all tensor-parallel ranks hold it: along any dimension, or each with two pieces along the first."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    ranks = draw(st.integers(1, 3))
    dim = draw(st.integers(0, len(shape) - 1))
    if dim == 0 and draw(st.booleans()):
        middle = draw(st.integers(0, shape[0]))
        lows, highs = draw(borders(middle, ranks)), draw(borders(shape[0] - middle, ranks))
        both = [(low, (middle + start, size)) for low, (start, size) in zip(lows, highs, strict=True)]
        return shape, [Sharding(shape, 0, pieces) for pieces in both]
    return shape, [Sharding(shape, dim, (part,)) for part in draw(borders(shape[dim], ranks))]


@given(shardings(), st.data())
def test_what_all_ranks_hold_makes_the_tensor(drawn: tuple[Shape, list[Sharding]], data: st.DataObject) -> None:
    shape, parts = drawn
    whole = torch.arange(np.prod(shape)).view(shape)
    found = []
    for sharding in parts:
        flat = sharding.take(whole).flatten()
        for start, numel in data.draw(borders(len(flat), data.draw(st.integers(1, 3)))):
            pieces = locate(shape, sharding, start, numel)
            assert sum(piece.numel for piece in pieces) == numel
            values = flat[start : start + numel].split([piece.numel for piece in pieces])
            found += [(piece, part.view(piece.shape)) for piece, part in zip(pieces, values, strict=True)]
    found = data.draw(st.permutations(found))
    assert fault_of(shape, [piece for piece, _ in found]) is None
    assert torch.equal(join(shape, found), whole)


def test_neighbouring_pieces_are_one_box() -> None:
    """So that a process on its own stores the token table in its own shape."""
    assert locate((5, 2), Sharding((5, 2), 0, ((0, 3), (3, 2))), 0, 10) == [Piece((0, 0), (5, 2), 0, 10)]
    assert locate((5, 2), None, 3, 4) == [Piece((0, 0), (5, 2), 3, 4)]


def test_boxes_that_lie_between_one_another_are_refused() -> None:
    with pytest.raises(ValueError, match="several pieces along dimension 1"):
        locate((2, 4), Sharding((2, 4), 1, ((0, 1), (2, 1))), 0, 4)


def count(shape: Shape, pieces: Sequence[Piece]) -> np.ndarray | None:
    """How many pieces hold each element; None where one holds what is not there."""
    counts = np.zeros(shape, int)
    for piece in pieces:
        inside = np.zeros(piece.size, int).ravel()
        if piece.start + piece.numel > len(inside) or not inside.size:
            return None
        if any(offset + size > length for offset, size, length in zip(piece.offset, piece.size, shape, strict=True)):
            return None
        inside[piece.start : piece.start + piece.numel] = 1
        corner = tuple(slice(at, at + size) for at, size in zip(piece.offset, piece.size, strict=True))
        counts[corner] += inside.reshape(piece.size)
    return counts


def sizes(largest: int) -> st.SearchStrategy[Shape]:
    return st.tuples(st.integers(0, largest), st.integers(0, largest))


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.lists(st.builds(Piece, sizes(2), sizes(3), st.integers(0, 3), st.integers(1, 9)), max_size=3),
)
def test_faults_are_found_as_by_counting(shape: Shape, pieces: list[Piece]) -> None:
    check(shape, pieces)


@given(shardings(), st.data())
def test_a_tensor_that_was_whole_is_no_more(drawn: tuple[Shape, list[Sharding]], data: st.DataObject) -> None:
    """One piece is taken away, doubled, or moved by one."""
    shape, parts = drawn
    pieces = [piece for part in parts for piece in locate(shape, part, 0, len(part.take(torch.zeros(shape)).flatten()))]
    chosen = data.draw(st.integers(0, len(pieces) - 1))
    piece = pieces.pop(chosen)
    moved = Piece((piece.offset[0] + 1, *piece.offset[1:]), piece.size, piece.start, piece.numel)
    shorter = Piece(piece.offset, piece.size, piece.start + 1, piece.numel - 1)
    pieces += data.draw(st.sampled_from([[], [piece, piece], [moved], [shorter]]))
    assert fault_of(shape, pieces) is not None
    if all(piece.numel for piece in pieces):
        check(shape, pieces)


def check(shape: Shape, pieces: list[Piece]) -> None:
    """There is no fault just where every element is counted once, and every box is covered by its own stretches."""
    counts, fault = count(shape, pieces), fault_of(shape, pieces)
    if counts is None:
        assert fault == "a piece lies outside of it"
        return
    held: dict[tuple[Shape, Shape], int] = {}
    for piece in pieces:
        held[piece.offset, piece.size] = held.get((piece.offset, piece.size), 0) + piece.numel
    complete = all(numel == np.prod(size) for (_, size), numel in held.items())
    assert (fault is None) == (complete and bool((counts == 1).all()))
