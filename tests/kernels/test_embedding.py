"""Embeddings on CPUs against torch's operations one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from hzlm.kernels.dropout import Draw, kept_features
from hzlm.kernels.embedding import add_places, add_places_reference, embed, embed_reference


def make(sequences: int, rows: int, length: int, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Tokens, table, places and place tables."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 7, (sequences, rows, length), generator=generator)
    places = torch.randint(0, 4, (rows, length), generator=generator)
    table, *place_tables = (
        torch.randn(size, width, generator=generator, dtype=torch.float64).requires_grad_()
        for size in (7, *[4] * sequences)
    )
    return tokens, table, places, place_tables


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**31), st.booleans())
def test_equals_torch(sequences: int, rows: int, length: int, width: int, seed: int, reference: bool) -> None:
    tokens, table, places, place_tables = make(sequences, rows, length, width, seed)
    expected = torch.stack(
        [
            functional.embedding(ids, table) + functional.embedding(places, own)
            for ids, own in zip(tokens, place_tables, strict=True)
        ]
    )
    vectors = functional.embedding(tokens, table)
    gradient = torch.randn(expected.shape, dtype=torch.float64)
    wide = torch.autograd.grad(expected, (table, *place_tables), gradient)
    for ours in (
        (embed_reference if reference else embed)(tokens, table, places, place_tables),
        (add_places_reference if reference else add_places)(vectors, places, place_tables),
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
        for one, theirs in zip(torch.autograd.grad(ours, (table, *place_tables), gradient), wide, strict=True):
            torch.testing.assert_close(one, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-2)])
def test_low_precision_stays_near_float64(dtype: torch.dtype, tolerance: float) -> None:
    """bfloat16 keeps 8 bits (2^-8 = 0.4 %), in which torch sums the thirty rows of an id on a CPU."""
    tokens, table, places, place_tables = make(2, 10, 12, 8, seed=1)
    expected = embed_reference(tokens, table, places, place_tables)
    tables = [one.detach().to(dtype).requires_grad_() for one in (table, *place_tables)]
    ours = embed(tokens, tables[0], places, tables[1:])
    gradient = torch.randn(expected.shape, dtype=torch.float64)
    wide = (expected, *torch.autograd.grad(expected, (table, *place_tables), gradient))
    for one, theirs in zip((ours, *torch.autograd.grad(ours, tables, gradient.to(dtype))), wide, strict=True):
        assert one.dtype == dtype
        assert (one.double() - theirs).norm() < tolerance * theirs.norm()


def test_dropout_keeps_its_share() -> None:
    tokens, table, places, place_tables = make(2, 50, 20, 8, seed=2)
    whole = embed(tokens, table, places, place_tables)
    for result in (
        embed(tokens, table, places, place_tables, Draw(0.25, 1)),
        add_places(functional.embedding(tokens, table), places, place_tables, Draw(0.25, 1)),
    ):
        kept = result != 0.0
        assert kept.double().mean() == pytest.approx(0.75, abs=0.02)
        torch.testing.assert_close(result, torch.where(kept, whole / 0.75, 0.0))


def test_the_reference_draws_the_mask_of_the_kernels() -> None:
    tokens, table, places, place_tables = make(2, 3, 4, 8, seed=3)
    draw = Draw(0.25, 9, row=3, column=4)
    whole = embed_reference(tokens, table, places, place_tables)
    # the token of a source position is even, that of the target position beside it the next number
    kept = kept_features(Draw(0.25, 9, row=6, column=4), 24, 8).view(3, 4, 2, 8).permute(2, 0, 1, 3)
    vectors = table[tokens]
    for result in (
        embed_reference(tokens, table, places, place_tables, draw),
        add_places_reference(vectors, places, place_tables, draw),
    ):
        torch.testing.assert_close(result, torch.where(kept, whole * draw.scale, 0.0))


@pytest.mark.parametrize(("token", "place"), [(7, 0), (0, 4)])
def test_an_index_outside_is_an_error(token: int, place: int) -> None:
    tokens, table, places, place_tables = make(2, 1, 1, 3, seed=4)
    with pytest.raises(IndexError):
        embed(torch.full_like(tokens, token), table, torch.full_like(places, place), place_tables)
