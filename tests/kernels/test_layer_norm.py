"""The torch paths around a sublayer against their definition in float64, and the definition against torch."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from hzlm.kernels import layer_norm as kernel
from hzlm.kernels.dropout import NO_DROPOUT, Draw, kept_features


def make(shape: Sequence[int], dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """x, bias, residual, weight, shift, and the gradients of the total and of its LayerNorm."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (shape, shape[-1:], shape, shape[-1:], shape[-1:], shape, shape)
    return [torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype) for size in shapes]


def leaves_of(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [tensor.detach().to(dtype).requires_grad_() for tensor in tensors[:5]]


@given(st.lists(st.integers(0, 5), max_size=2), st.integers(1, 40), st.integers(0, 2**31))
def test_equals_the_definition(leading: list[int], width: int, seed: int) -> None:
    tensors = make((*leading, width), torch.float64, seed)
    results = []
    for function in (kernel.add_layer_norm, kernel.add_layer_norm_reference):
        x, bias, residual, weight, shift = leaves = leaves_of(tensors, torch.float64)
        outputs = function(x, bias, residual, weight, shift, NO_DROPOUT, 1e-3)
        results.append((outputs, torch.autograd.grad(outputs, leaves, tensors[5:])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


# A rounding is 2^-9 or 2^-24 of a number; there are up to three of them, and a sum of sixty numbers behind each other.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float32, 1e-6)])
def test_low_precision_stays_near_float64(dtype: torch.dtype, tolerance: float) -> None:
    tensors = make((3, 20, 64), dtype)
    results = []
    for function, precision in ((kernel.add_layer_norm, dtype), (kernel.add_layer_norm_reference, torch.float64)):
        x, bias, residual, weight, shift = leaves = leaves_of(tensors, precision)
        outputs = function(x, bias, residual, weight, shift)
        gradients = torch.autograd.grad(outputs, leaves, [gradient.to(precision) for gradient in tensors[5:]])
        results.append((*outputs, *gradients))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).norm() < tolerance * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_together_as_apart(dtype: torch.dtype) -> None:
    x, bias, residual, weight, shift, *_ = make((7, 48), dtype)
    total, normal = kernel.add_layer_norm(x.clone(), bias, residual, weight, shift)
    assert torch.equal(total, kernel.add(x, bias, residual))
    assert torch.equal(normal, kernel.layer_norm(total, weight, shift))


def test_dropout_draws_as_torch_does() -> None:
    tensors = make((50, 64), torch.float64)
    draw = Draw(0.25, seed=7)
    results = []
    for ours in (True, False):
        x, bias, residual, *_ = leaves = leaves_of(tensors, torch.float64)
        torch.manual_seed(5)
        total = kernel.add(x, bias, residual, draw) if ours else residual + functional.dropout(x + bias, draw.rate)
        results.append((total, *torch.autograd.grad(total, leaves[:3], tensors[5])))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_the_reference_drops_what_the_kernels_drop() -> None:
    x, bias, residual, *_ = make((2, 10, 12), torch.float64)
    draw = Draw(0.4, seed=99, row=3, column=4)
    kept = kept_features(draw, 20, 12).reshape(x.shape)
    total = kernel.add_reference(x, bias, residual, draw)
    torch.testing.assert_close(total[kept], (residual + (x + bias) * draw.scale)[kept])
    assert torch.equal(total[~kept], residual[~kept])


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_what_may_not_be_overwritten_is_not(rate: float) -> None:
    """A leaf, and one of several views; the residual never."""
    tensors = make((6, 8), torch.float32)
    leaf, bias, residual, weight, shift = leaves_of(tensors, torch.float32)
    for x in (leaf, torch.stack([leaf, leaf]).unbind()[0]):
        outputs = kernel.add_layer_norm(x, bias, residual, weight, shift, Draw(rate, seed=1))
        torch.autograd.grad(outputs, (leaf, bias, residual), tensors[5:])
        assert torch.equal(x.detach(), tensors[0])
        assert torch.equal(residual.detach(), tensors[2])


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_product_of_a_linear_layer_is_overwritten(rate: float) -> None:
    tensors = make((2, 6, 8), torch.float64)
    matrix = torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    results = []
    for copied in (True, False):
        leaf, bias, residual, weight, shift = leaves = leaves_of(tensors, torch.float64)
        torch.manual_seed(5)
        product = functional.linear(leaf, matrix)
        x = product.view_as(product) if copied else product
        total, normal = kernel.add_layer_norm(x, bias, residual, weight, shift, Draw(rate, seed=1))
        assert torch.equal(x, leaf @ matrix.T + bias) != copied
        results.append((total, normal, *torch.autograd.grad((total, normal), (*leaves, matrix), tensors[5:])))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
