"""Bias, ReLU and dropout in Triton against their definition in float64."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import Traffic, spread, watch
from torch import Tensor

from hzlm.kernels.bias_relu_dropout import bias_relu_dropout_reference
from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.kernels.gpu import bias_relu_dropout as kernel
from hzlm.tools.bench.kernels.bias_relu_dropout import backward_cost, forward_cost

# All is computed in float32 and rounded once to a dtype of 24, 11 or 8 bits, by 2^-24, 2^-11, 2^-8 of the number at
# most; twice that is allowed, and in float32 what a sum of a few hundred numbers has for the bias.
TOLERANCES = {torch.float32: 3e-6, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
DRAW = Draw(0.3, 2**40 + 7, row=5, column=8)
SMALL = {"ROWS": 4, "COLUMNS": 8, "SPAN": 8}
"""Blocks that make many programs of small tensors."""


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(operation: str, size: int) -> dict[str, int]:
        names = ("ROWS", "COLUMNS", "SPAN") if operation.endswith("backward") else ("ROWS", "COLUMNS")
        return {name: SMALL[name] for name in names}

    monkeypatch.setattr(kernel, "choose_blocks", choose)


def make(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x, bias and the gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    x, bias, gradient = (torch.randn(size, generator=generator).to(dtype) for size in (shape, shape[-1:], shape))
    return x, bias, gradient


def run(x: Tensor, bias: Tensor, gradient: Tensor, draw: Draw) -> tuple[tuple[Tensor, ...], Traffic]:
    """The result and both gradients of the kernels, under watch; x is written over nowhere."""
    x, bias = x.detach().requires_grad_(), bias.detach().requires_grad_()
    with watch() as traffic:
        result = kernel.bias_relu_dropout(x, bias, draw)
        gradients = torch.autograd.grad(result, (x, bias), gradient)
    return (result.detach(), *gradients), traffic


def check(x: Tensor, bias: Tensor, gradient: Tensor, draw: Draw) -> None:
    """Kernels against the definition."""
    wide_x, wide_bias = (tensor.detach().double().requires_grad_() for tensor in (x, bias))
    expected = bias_relu_dropout_reference(wide_x, wide_bias, draw)
    wide = (expected.detach(), *torch.autograd.grad(expected, (wide_x, wide_bias), gradient.double()))
    for ours, theirs in zip(run(x, bias, gradient, draw)[0], wide, strict=True):
        assert ours.dtype == x.dtype
        assert ours.is_contiguous()
        tolerance = TOLERANCES[x.dtype]
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("draw", [NO_DROPOUT, DRAW])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7, 257), (2, 65, 130)])
def test_equals_the_definition(shape: tuple[int, ...], dtype: torch.dtype, draw: Draw) -> None:
    check(*make(shape, dtype), draw)


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=12)
@given(st.lists(st.integers(1, 4), max_size=3), st.integers(1, 19), st.sampled_from([NO_DROPOUT, DRAW]))
def test_equals_the_definition_for_any_shape(leading: list[int], width: int, draw: Draw) -> None:
    check(*make((*leading, width)), draw)


@pytest.mark.parametrize("draw", [NO_DROPOUT, DRAW])
def test_strides(draw: Draw) -> None:
    x, bias, gradient = make((5, 12))
    check(spread(x), bias, spread(gradient), draw)
    check(x.reshape(12, 5).T, bias, gradient.reshape(12, 5).T, draw)
    check(x.reshape(5, 3, 4).transpose(0, 1), bias[:4], gradient.reshape(3, 5, 4), draw)
    # the gradient of a sum has strides of 0
    check(x, bias, torch.ones(()).expand(5, 12), draw)


def test_the_product_of_a_linear_layer_is_written_over() -> None:
    """And its history goes on: the gradients of the layer's input and weight are right."""
    h, weight = torch.randn(2, 3, 5).requires_grad_(), torch.randn(8, 5).requires_grad_()
    bias, gradient = torch.randn(8).requires_grad_(), torch.randn(2, 3, 8)
    product = torch.nn.functional.linear(h, weight)
    with watch():
        result = kernel.bias_relu_dropout(product, bias, DRAW)
        assert result.data_ptr() == product.data_ptr()
        ours = torch.autograd.grad(result, (h, weight, bias), gradient)
    expected = bias_relu_dropout_reference(torch.nn.functional.linear(h, weight), bias, DRAW)
    for one, theirs in zip(ours, torch.autograd.grad(expected, (h, weight, bias), gradient), strict=True):
        torch.testing.assert_close(one, theirs, rtol=1e-5, atol=1e-5)


def test_who_needed_the_product_gets_an_error() -> None:
    product = torch.randn(3, 8).requires_grad_() * 1.0
    square = product.square()
    with watch():
        kernel.bias_relu_dropout(product, torch.zeros(8), NO_DROPOUT)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.sum().backward()


def test_leaves_views_and_gradients_are_not_written_over() -> None:
    x, bias, gradient = make((4, 8))
    leaf, base = x.clone().requires_grad_(), x.clone().requires_grad_() * 1.0
    for whole, part in ((leaf, leaf), (base, base[:])):
        incoming = gradient.clone()
        with watch():
            torch.autograd.grad(kernel.bias_relu_dropout(part, bias, DRAW), whole, incoming)
        assert torch.equal(whole, x)
        assert torch.equal(incoming, gradient)


def test_nan_stays_as_in_torch() -> None:
    x, bias, gradient = make((3, 8))
    x[1, 2], bias[5] = float("nan"), float("nan")
    expected = torch.relu(x + bias)
    (result, below, bias_gradient), _ = run(x, bias, gradient, NO_DROPOUT)
    torch.testing.assert_close(result, expected, equal_nan=True)
    torch.testing.assert_close(below, torch.where(expected <= 0.0, 0.0, gradient))
    torch.testing.assert_close(bias_gradient, below.sum(0))


def test_two_runs_give_the_same_bits() -> None:
    given_tensors = make((150, 40), torch.bfloat16)
    for first, second in zip(run(*given_tensors, DRAW)[0], run(*given_tensors, DRAW)[0], strict=True):
        assert torch.equal(first, second)


def test_ranks_that_share_the_features_draw_the_mask_of_all() -> None:
    x, bias, gradient = make((6, 24))
    whole, _ = run(x, bias, gradient, Draw(0.5, 3))
    for part in (slice(0, 8), slice(8, 24)):
        draw = Draw(0.5, 3, column=part.start)
        ours, _ = run(x[:, part].contiguous(), bias[part], gradient[:, part], draw)
        for one, all_of_it in zip(ours, whole, strict=True):
            assert torch.equal(one, all_of_it[..., part])


@pytest.mark.parametrize("draw", [NO_DROPOUT, DRAW])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moves_what_the_formulas_say(dtype: torch.dtype, draw: Draw) -> None:
    _, traffic = run(*make((3, 50, 300), dtype), draw)
    size = torch.finfo(dtype).bits // 8
    cost = forward_cost(150, 300, size) + backward_cost(150, 300, size)
    assert (traffic.read, traffic.written, traffic.launches) == (cost.read, cost.written, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.zeros(2, 8, dtype=torch.float64)}, "x is torch.float64"),
        ({"x": torch.zeros(())}, "x has 0 dimensions"),
        ({"bias": torch.zeros(7)}, r"bias has shape \[7\]; it must be \[8\]"),
        ({"bias": torch.zeros(8, dtype=torch.float16)}, "bias is torch.float16"),
        ({"bias": torch.zeros(8, device="meta")}, "bias is on meta"),
        ({"draw": Draw(0.1, 1, column=2)}, "draw.column is 2"),
    ],
)
def test_wrong_arguments(changed: dict[str, Any], message: str) -> None:
    with watch() as traffic, pytest.raises(ValueError, match=message):
        kernel.bias_relu_dropout(**{"x": torch.zeros(2, 8), "bias": torch.zeros(8), **changed})
    assert traffic.launches == 0
