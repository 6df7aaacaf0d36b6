"""Attention against a loop over queries in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hzlm.kernels.attention import attention, attention_bias


def loop(
    query: Tensor, key: Tensor, value: Tensor, query_segments: Tensor, key_segments: Tensor, causal: bool
) -> Tensor:
    """Equation 1 of Vaswani et al., one query at a time, over the keys it may see."""
    out = torch.zeros_like(query)
    rows, heads, queries, size = query.shape
    for row in range(rows):
        for position in range(queries):
            seen = [
                k
                for k in range(key.shape[2])
                if key_segments[row, k] == query_segments[row, position] and (not causal or k <= position)
            ]
            for head in range(heads):
                scores = key[row, head, seen] @ query[row, head, position] / math.sqrt(size)
                out[row, head, position] = torch.softmax(scores, 0) @ value[row, head, seen]
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 9), st.booleans(), st.integers(0, 2**31))
def test_equals_loop_forward_and_backward(rows: int, heads: int, length: int, causal: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(rows, heads, length, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)
    )
    segments = torch.randint(0, 3, (rows, length), generator=generator).sort(dim=1).values
    bias = attention_bias(segments, segments, causal, torch.float64)
    fast = attention(query, key, value, bias)
    slow = loop(query, key, value, segments, segments, causal)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    direction = torch.randn(fast.shape, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(fast, (query, key, value), direction),
        torch.autograd.grad(slow, (query, key, value), direction),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    torch.manual_seed(0)
    query, key = torch.zeros(1, 1, 400, 8), torch.zeros(1, 1, 400, 8)
    value = torch.ones(1, 1, 400, 8)
    dropped = attention(query, key, value, torch.zeros(1, 1, 1, 1), dropout=0.25)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert dropped.std().item() == pytest.approx(math.sqrt(0.25 / 0.75 / 400), rel=0.2)
