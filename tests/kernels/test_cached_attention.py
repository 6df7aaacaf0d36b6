"""Attention over a cache: the torch path against the definition, and that against attention over whole rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.kernels.attention import attention_reference
from hzlm.kernels.cached_attention import cached_attention, cached_attention_reference


@settings(max_examples=30)
@given(st.lists(st.integers(0, 7), max_size=4), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2**31))
def test_equals_the_definition_whatever_lies_behind_the_end(
    lengths: list[int], heads: int, surplus: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, most = len(lengths), max(lengths, default=0) + surplus
    query = torch.randn(rows, heads, 5, generator=generator, dtype=torch.float64)
    keys, values = torch.randn(2, rows, most, heads, 5, generator=generator, dtype=torch.float64)
    for row, length in enumerate(lengths):
        keys[row, length:] = values[row, length:] = torch.nan
    seen = torch.tensor(lengths, dtype=torch.int32)
    expected = cached_attention_reference(query, keys, values, seen)
    assert expected.isfinite().all()
    assert expected[seen == 0].eq(0.0).all()
    torch.testing.assert_close(cached_attention(query, keys, values, seen), expected, rtol=1e-12, atol=1e-12)


def test_the_definition_is_attention_of_the_last_query() -> None:
    query, key, value = torch.randn(3, 2, 6, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = attention_reference(query, key, value, torch.ones(2, 6, dtype=torch.int32), causal=True)
    for place in range(6):
        lengths = torch.full((2,), place + 1, dtype=torch.int32)
        last = cached_attention_reference(query[:, place], key, value, lengths)
        torch.testing.assert_close(last, whole[:, place], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 5e-4), (torch.bfloat16, 4e-3)])
def test_low_precision_rounds_the_result_alone(dtype: torch.dtype, tolerance: float) -> None:
    """float16 keeps 11 bits, bfloat16 8; everything between is float32."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 2, 8, generator=generator).to(dtype).requires_grad_()
    keys, values = torch.randn(2, 3, 9, 2, 8, generator=generator).to(dtype)
    lengths = torch.tensor([9, 1, 4], dtype=torch.int32)
    ours = cached_attention(query, keys, values, lengths)
    assert ours.dtype == dtype
    assert not ours.requires_grad
    expected = cached_attention_reference(*(x.detach().double() for x in (query, keys, values)), lengths)
    torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=tolerance)
