"""Fused projection and cross entropy against torch's own cross entropy in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hzlm.kernels import linear_cross_entropy as kernel


def draw(positions: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, 8, generator=generator, dtype=torch.float64)
    table = torch.randn(classes, 8, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, classes, (positions,), generator=generator)
    weights = torch.rand(positions, generator=generator, dtype=torch.float64)
    return hidden.requires_grad_(), table.requires_grad_(), targets, weights


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1100), st.integers(2, 40), st.sampled_from([0.0, 0.1]), st.integers(0, 2**31), st.booleans())
def test_equals_torch(positions: int, classes: int, smoothing: float, seed: int, reference: bool) -> None:
    hidden, table, targets, weights = draw(positions, classes, seed)
    function = kernel.linear_cross_entropy_reference if reference else kernel.linear_cross_entropy
    loss, correct = function(hidden, table, targets, weights, smoothing)
    logits = hidden @ table.T
    losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    expected = (losses * weights).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(correct, logits.argmax(1) == targets)
    for ours, theirs in zip(
        torch.autograd.grad(3.0 * loss, (hidden, table)),
        torch.autograd.grad(3.0 * expected, (hidden, table)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_low_precision_stays_near_float64(dtype: torch.dtype, tolerance: float) -> None:
    """bfloat16 keeps 8 bits (2^-8 = 0.4 %); gradients sum two such roundings."""
    hidden, table, targets, weights = draw(700, 50, seed=5)
    expected = kernel.linear_cross_entropy_reference(hidden, table, targets, weights, 0.1).loss
    wide = torch.autograd.grad(expected, (hidden, table))
    low_hidden, low_table = (tensor.detach().to(dtype).requires_grad_() for tensor in (hidden, table))
    loss = kernel.linear_cross_entropy(low_hidden, low_table, targets, weights.float(), 0.1).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    for ours, theirs in zip(torch.autograd.grad(loss, (low_hidden, low_table)), wide, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).norm() < tolerance * theirs.norm()


def test_without_gradient_only_the_logits_are_computed() -> None:
    hidden, table, targets, weights = draw(20, 9, seed=1)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        loss = kernel.linear_cross_entropy(hidden, table, targets, weights).loss
    assert not loss.requires_grad
    assert counted.get_total_flops() == 2 * hidden.shape[0] * hidden.shape[1] * table.shape[0]
    assert loss.item() == pytest.approx(
        kernel.linear_cross_entropy_reference(hidden, table, targets, weights).loss.item()
    )
