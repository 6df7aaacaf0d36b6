"""The divided token table: who has which ids, and looking them up in real processes against one whole table."""

from itertools import chain

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from row_modes import run_in_both_row_modes
from torch import Tensor, nn
from torch.nn import functional

from hzlm.launch.processes import run_ranks
from hzlm.parallel.collectives import own_rows
from hzlm.parallel.mesh import Axis, Mesh
from hzlm.parallel.sharding import shard
from hzlm.parallel.vocabulary import divide_table, embed_parallel

ROWS, WIDTH, IDS, TARGET_START = 6, 3, 23, 8
Array = npt.NDArray[np.float64]
Found = tuple[Array, Array]


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 9))
def test_each_rank_has_its_share_of_targets_and_of_other_ids(target_start: int, targets: int, ranks: int) -> None:
    """Any two ranks differ by at most one target, which costs most, and by at most one other id."""
    shardings = [divide_table(target_start + targets, target_start, 4, Axis(ranks, rank)) for rank in range(ranks)]
    ids = [[range(start, start + size) for start, size in sharding.pieces] for sharding in shardings]
    assert sorted(chain(*chain(*ids))) == list(range(target_start + targets))
    for others, own in ids:
        assert all(number < target_start for number in others)
        assert all(number >= target_start for number in own)
        assert targets // ranks <= len(own) <= -(-targets // ranks)
        assert target_start // ranks <= len(others) <= -(-target_start // ranks)


def draw() -> tuple[Tensor, Tensor, Tensor]:
    """Table, tokens and the gradient of their vectors; among the tokens is every id, and one many times."""
    generator = torch.Generator().manual_seed(7)
    table = torch.randn(IDS, WIDTH, generator=generator, dtype=torch.float64)
    tokens = torch.cat([torch.randperm(IDS, generator=generator), torch.full((ROWS * 5 - IDS,), TARGET_START)])
    return table, tokens.view(ROWS, 5), torch.randn(ROWS, 5, WIDTH, generator=generator, dtype=torch.float64)


def look_up(mesh: Mesh) -> Found:
    """On one rank: the vectors, and the gradient of its part of the table."""
    table, tokens, pull = draw()
    sharding = divide_table(IDS, TARGET_START, WIDTH, mesh.tensor)
    own = shard(nn.Parameter(sharding.take(table)), sharding)
    vectors = embed_parallel(tokens, own, mesh)
    (gradient,) = torch.autograd.grad((vectors * own_rows(pull, mesh)).sum(), own)
    return vectors.detach().numpy(), gradient.numpy()


@pytest.mark.parametrize("ranks", [2, 3])
def test_vectors_and_gradients_equal_those_of_the_whole_table(ranks: int) -> None:
    """The 15 targets of two ranks are 7 and 8; the 8 other ids of three ranks are 2, 3 and 3."""
    table, tokens, pull = draw()
    table.requires_grad_()
    expected = functional.embedding(tokens, table)
    (wanted,) = torch.autograd.grad((expected * pull).sum(), table)
    found = run_ranks(run_in_both_row_modes, ranks, look_up)
    for number in (0, 1):
        gradient = np.full((IDS, WIDTH), np.nan)
        for rank in range(ranks):
            below, above = TARGET_START * rank // ranks, TARGET_START * (rank + 1) // ranks
            targets = IDS - TARGET_START
            first, last = (TARGET_START + targets * edge // ranks for edge in (rank, rank + 1))
            gradient[[*range(below, above), *range(first, last)]] = found[rank][number][1]
        np.testing.assert_allclose(gradient, wanted.numpy(), rtol=1e-12, atol=1e-12)
    for whole, _ in found:
        np.testing.assert_array_equal(whole[0], expected.detach().numpy())
    split = np.concatenate([vectors for _, (vectors, _) in found])
    np.testing.assert_array_equal(split, expected.detach().numpy())
    assert {len(vectors) for _, (vectors, _) in found} == {ROWS // ranks}
