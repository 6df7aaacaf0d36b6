"""Bias, ReLU and dropout on CPUs against torch's operations one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from hzlm.kernels.bias_relu_dropout import bias_relu_dropout, bias_relu_dropout_reference, may_overwrite
from hzlm.kernels.dropout import Draw, kept_features


def make(leading: list[int], width: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Input and weight of a linear layer, bias, and the gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((*leading, 5), (width, 5), (width,), (*leading, width))
    h, weight, bias, gradient = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return *(tensor.to(dtype).requires_grad_() for tensor in (h, weight, bias)), gradient.to(dtype)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 9), st.integers(0, 2**31), st.booleans())
def test_equals_torch(leading: list[int], width: int, seed: int, reference: bool) -> None:
    h, weight, bias, gradient = make(leading, width, seed)
    function = bias_relu_dropout_reference if reference else bias_relu_dropout
    ours = function(functional.linear(h, weight), bias)
    expected = functional.relu(functional.linear(h, weight, bias))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    for one, theirs in zip(
        torch.autograd.grad(ours, (h, weight, bias), gradient),
        torch.autograd.grad(expected, (h, weight, bias), gradient),
        strict=True,
    ):
        torch.testing.assert_close(one, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_low_precision_stays_near_float64(dtype: torch.dtype, tolerance: float) -> None:
    """bfloat16 keeps 8 bits (2^-8 = 0.4 %); the sign of the sum is right all the same."""
    generator = torch.Generator().manual_seed(1)
    x, bias, gradient = (torch.randn(shape, generator=generator).to(dtype) for shape in ((200, 30), (30,), (200, 30)))
    leaves = x.requires_grad_(), bias.requires_grad_()
    wide_leaves = [leaf.detach().double().requires_grad_() for leaf in leaves]
    ours, expected = bias_relu_dropout(*leaves), bias_relu_dropout_reference(*wide_leaves)
    low = (ours, *torch.autograd.grad(ours, leaves, gradient))
    wide = (expected, *torch.autograd.grad(expected, wide_leaves, gradient.double()))
    for one, theirs in zip(low, wide, strict=True):
        assert one.dtype == dtype
        assert (one.double() - theirs).norm() < tolerance * theirs.norm()


def test_dropout_keeps_its_share_and_the_gradient_goes_where_something_is_left() -> None:
    h, weight, bias, gradient = make([100, 10], 40, seed=2)
    x = functional.linear(h, weight).detach().requires_grad_()
    result = bias_relu_dropout(x, bias, Draw(0.25, 1))
    whole = functional.relu(x + bias)
    left = result > 0.0
    assert left.sum() / (whole > 0.0).sum() == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(result, torch.where(left, whole / 0.75, 0.0))
    below, bias_gradient = torch.autograd.grad(result, (x, bias), gradient)
    torch.testing.assert_close(below, torch.where(left, gradient / 0.75, 0.0))
    torch.testing.assert_close(bias_gradient, below.sum((0, 1)))


def test_the_reference_draws_the_mask_of_the_kernels() -> None:
    draw = Draw(0.25, 9, row=3, column=4)
    result = bias_relu_dropout_reference(torch.ones(2, 3, 8), torch.ones(8), draw)
    expected = 2.0 * draw.scale * kept_features(draw, 6, 8).view(2, 3, 8)
    torch.testing.assert_close(result, expected.float())


def test_only_what_autograd_allows_is_written_over() -> None:
    h, weight, bias, _ = make([2, 3], 8, seed=3)
    for product, fits in (
        (functional.linear(h, weight), True),
        (functional.linear(h.detach(), weight.detach()), True),
        (functional.linear(h, weight).detach().requires_grad_(), False),
        (functional.linear(h, weight)[:], False),
        (functional.linear(h, weight).mT, False),
    ):
        before = product.detach().clone()
        assert may_overwrite(product) == fits
        result = bias_relu_dropout(product, bias[: product.shape[-1]])
        assert (result.data_ptr() == product.data_ptr()) == fits
        assert fits or torch.equal(product, before)


@pytest.mark.parametrize("function", [bias_relu_dropout, bias_relu_dropout_reference])
def test_nan_stays(function: type) -> None:
    x = torch.tensor([[float("nan"), 1.0], [-1.0, 2.0]])
    assert function(x, torch.zeros(2)).isnan().tolist() == [[True, False], [False, False]]
