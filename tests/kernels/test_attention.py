"""Attention against a loop over queries in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hzlm.kernels.attention import attention, attention_reference
from hzlm.kernels.dropout import Draw

both = pytest.mark.parametrize("attend", [attention, attention_reference])
Attend = Callable[..., Tensor]


def loop(query: Tensor, key: Tensor, value: Tensor, segments: Tensor, causal: bool) -> Tensor:
    """Equation 1 of Vaswani et al., one query at a time, over the keys it may see; zeros in segment 0."""
    out = 0.0 * (query + key + value)
    _, length, heads, size = query.shape
    for row, position in (segments != 0).nonzero().tolist():
        seen = [
            k for k in range(length) if segments[row, k] == segments[row, position] and (not causal or k <= position)
        ]
        for head in range(heads):
            scores = key[row, seen, head] @ query[row, position, head] / math.sqrt(size)
            out[row, position, head] = torch.softmax(scores, 0) @ value[row, seen, head]
    return out


@both
@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 2), st.integers(1, 9), st.booleans(), st.integers(0, 2**31))
def test_equals_loop_forward_and_backward(
    attend: Attend, rows: int, heads: int, length: int, causal: bool, seed: int
) -> None:
    """Outside segment 0, which nobody looks at: so its outputs have a gradient of 0."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value, direction = (
        torch.randn(rows, length, heads, 4, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    inputs = [x.requires_grad_() for x in (query, key, value)]
    segments = torch.randint(0, 4, (rows, length), generator=generator).sort(dim=1).values % 3
    direction[segments == 0] = 0.0
    ours, expected = attend(*inputs, segments, causal), loop(*inputs, segments, causal)
    assert ours.isfinite().all()
    torch.testing.assert_close(ours[segments != 0], expected[segments != 0], rtol=1e-12, atol=1e-12)
    for gradient, theirs in zip(
        torch.autograd.grad(ours, inputs, direction),
        torch.autograd.grad(expected, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(gradient, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("segments", [[0, 0, 0, 0], [0, 1, 1, 0], [1, 0, 0, 2]])
def test_the_reference_has_zeros_in_padding_and_no_gradient_there(segments: list[int], causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 4, 2, 3, generator=generator).requires_grad_() for _ in range(3)]
    padding = torch.tensor([segments]) == 0
    out = attention_reference(*inputs, torch.tensor([segments]), causal)
    assert out[padding].eq(0.0).all()
    assert out[~padding].ne(0.0).all()
    for gradient in torch.autograd.grad(out, inputs, torch.ones_like(out)):
        assert gradient[padding].eq(0.0).all()
        assert gradient.isfinite().all()


@both
def test_dropout_keeps_the_mean_and_drops_its_share(attend: Attend) -> None:
    """Of 10,000 equal weights, which the values lay open."""
    torch.manual_seed(0)
    nothing, value = torch.zeros(1, 100, 1, 100), torch.eye(100)[None, :, None]
    weights = attend(nothing, nothing, value, torch.ones(1, 100, dtype=torch.int32), False, Draw(0.25, 7))
    # the standard deviation of the share is 0.0043
    assert weights.eq(0.0).float().mean().item() == pytest.approx(0.25, abs=0.015)
    torch.testing.assert_close(weights[weights != 0.0].unique(), torch.tensor([0.01 / 0.75]))
    assert weights.sum().item() == pytest.approx(100.0, abs=2.0)
