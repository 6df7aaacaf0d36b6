"""What bias, ReLU and dropout cost between the linear layers of a feed-forward network."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.config import ModelConfig
from hzlm.kernels.dropout import Draw
from hzlm.kernels.gpu.bias_relu_dropout import bias_relu_dropout
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.tools.bench.kernels.case import Case, Cost

PARTIAL = 4
"""Bytes of a float32."""


def forward_cost(tokens: int, width: int, size: int) -> Cost:
    """Of x [tokens, width] whose elements have `size` bytes: each program reads its part of the bias."""
    activations = tokens * width * size
    down = -(-tokens // choose_blocks("bias_relu_dropout", width)["ROWS"])
    bias = width * size
    return Cost(activations + down * bias, activations, 2 * activations + bias)


def backward_cost(tokens: int, width: int, size: int) -> Cost:
    """Result and gradient in, gradient out; the partial sums of the bias gradient out and in."""
    activations = tokens * width * size
    partials = -(-tokens // choose_blocks("bias_relu_dropout_backward", width)["SPAN"]) * width * PARTIAL
    bias = width * size
    return Cost(2 * activations + partials, activations + partials + bias, 3 * activations + bias)


def plain_moved(tokens: int, width: int, size: int, rate: float, backward: bool) -> int:
    """Bytes that torch moves: ReLU, dropout with a mask of bytes; both backward, and the column sums."""
    elements = tokens * width
    dropout = (2 * size + 1) * elements if rate > 0.0 else 0
    forward = 2 * size * elements + dropout
    return forward + (4 * size * elements + size * width + dropout if backward else 0)


def cases(model: ModelConfig, targets: int, tokens: int) -> list[Case]:
    """With the dropout that the model has here, and with the one that it has elsewhere."""
    width = model.feed_forward_size
    found = []
    for rate in dict.fromkeys((model.activation_dropout, model.dropout)):
        shape = f"{tokens} x {width}, dropout {rate}"
        make = partial(_make, tokens, width)
        draw = Draw(rate, seed=1)
        forward, backward = forward_cost(tokens, width, 2), backward_cost(tokens, width, 2)
        found += [
            Case(
                "bias_relu_dropout", shape, "forward", make, partial(_kernel, draw), partial(_plain, rate), forward,
                plain_moved(tokens, width, 2, rate, backward=False),
            ),
            Case(
                "bias_relu_dropout", shape, "both", make, partial(_kernel_both, draw), partial(_plain_both, rate),
                forward + backward, plain_moved(tokens, width, 2, rate, backward=True),
            ),
        ]  # fmt: skip
    return found


def _make(tokens: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """x, bias and the gradient of the result. Since x is a leaf, nothing is written over it."""
    x, gradient = (torch.randn(tokens, width, dtype=torch.bfloat16, device=device) for _ in range(2))
    bias = torch.randn(width, dtype=torch.bfloat16, device=device)
    return x.requires_grad_(), bias.requires_grad_(), gradient


@torch.no_grad()
def _kernel(draw: Draw, x: Tensor, bias: Tensor, gradient: Tensor) -> Tensor:
    return bias_relu_dropout(x, bias, draw)


def _kernel_both(draw: Draw, x: Tensor, bias: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(bias_relu_dropout(x, bias, draw), (x, bias), gradient)


@torch.no_grad()
def _plain(rate: float, x: Tensor, bias: Tensor, gradient: Tensor) -> Tensor:
    return _relu_dropout(rate, x)


def _plain_both(rate: float, x: Tensor, bias: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """With the gradient of the bias, which a linear layer of torch sums apart."""
    (below,) = torch.autograd.grad(_relu_dropout(rate, x), x, gradient)
    return below, below.sum(0)


def _relu_dropout(rate: float, x: Tensor) -> Tensor:
    """Without the bias, which a linear layer of torch adds as it writes its product."""
    result = functional.relu(x)
    return functional.dropout(result, rate) if rate > 0.0 else result
