"""Parts of logical tensors: together they are the whole, and each element lies in one of them."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hzlm.parallel.mesh import Axis
from hzlm.parallel.sharding import Sharding, divide, logical_shape, offsets, shard, sharding_of


@given(st.integers(0, 10_000), st.integers(1, 70))
def test_parts_follow_one_another_and_differ_by_one_at_most(total: int, ranks: int) -> None:
    parts = [divide(total, Axis(ranks, index)) for index in range(ranks)]
    assert [number for start, size in parts for number in range(start, start + size)] == list(range(total))
    sizes = [size for _, size in parts]
    assert max(sizes) - min(sizes) <= 1


@dataclass(frozen=True)
class Cut:
    """A tensor whose dimension `dim` is some stretches, each divided over the ranks."""

    shape: tuple[int, ...]
    dim: int
    stretches: tuple[int, ...]
    ranks: int

    @property
    def shardings(self) -> list[Sharding]:
        """By rank."""
        edges = list(accumulate(self.stretches, initial=0))
        found = []
        for index in range(self.ranks):
            parts = [(first, *divide(last - first, Axis(self.ranks, index))) for first, last in pairwise(edges)]
            pieces = tuple((first + start, size) for first, start, size in parts)
            found.append(Sharding(self.shape, self.dim, pieces))
        return found


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    stretches = tuple(draw(st.lists(st.integers(0, 7), min_size=1, max_size=3)))
    others = draw(st.lists(st.integers(1, 4), max_size=2))
    dim = draw(st.integers(0, len(others)))
    return Cut((*others[:dim], sum(stretches), *others[dim:]), dim, stretches, draw(st.integers(1, 5)))


@given(cuts())
def test_all_parts_together_are_the_whole_tensor_once(cut: Cut) -> None:
    whole = torch.arange(torch.Size(cut.shape).numel()).view(cut.shape)
    parts = [sharding.take(whole) for sharding in cut.shardings]
    assert torch.cat([part.flatten() for part in parts]).sort().values.tolist() == whole.flatten().tolist()
    again = torch.full_like(whole, -1)
    for part, sharding in zip(parts, cut.shardings, strict=True):
        assert part.shape[cut.dim] == sum(size for _, size in sharding.pieces)
        for (start, size), offset in zip(sharding.pieces, offsets(sharding), strict=True):
            again.narrow(cut.dim, start, size).copy_(part.narrow(cut.dim, offset, size))
    assert torch.equal(again, whole)


def test_a_part_has_its_pieces_one_behind_the_other() -> None:
    whole = torch.tensor([[0, 1, 2, 3, 4, 5], [10, 11, 12, 13, 14, 15]])
    sharding = Sharding((2, 6), 1, ((1, 2), (5, 1)))
    assert sharding.take(whole).tolist() == [[1, 2, 5], [11, 12, 15]]
    assert offsets(sharding) == [0, 2]


def test_a_marked_parameter_knows_its_logical_tensor() -> None:
    whole, part = nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(2, 3))
    sharding = Sharding((4, 3), 0, ((2, 2),))
    assert shard(part, sharding) is part
    assert sharding_of(part) is sharding
    assert logical_shape(part) == (4, 3)
    assert sharding_of(whole) is None
    assert logical_shape(whole) == (4, 3)
