"""What bias, dropout, residual and LayerNorm cost around a sublayer."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.config import ModelConfig
from hzlm.kernels.dropout import Draw
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.layer_norm import add, add_layer_norm, layer_norm
from hzlm.tools.bench.kernels.case import Case, Cost
from hzlm.tools.bench.kernels.peers import liger_layer_norm

Face = Literal["add_layer_norm", "layer_norm", "add"]
Run = Callable[..., tuple[Tensor, ...]]
SHAPES: dict[Face, str] = {"add_layer_norm": "", "layer_norm": ", LayerNorm alone", "add": ", sum alone"}
FLOAT = 4
"""Bytes of a float32: mean and reciprocal deviation of a token, and partial sums."""


def forward_cost(face: Face, tokens: int, width: int, size: int) -> Cost:
    """Of x [tokens, width] whose elements have `size` bytes: each program reads bias, weight and shift."""
    adds, norms = face != "layer_norm", face != "add"
    activations, vector = tokens * width * size, width * size
    programs = -(-tokens // choose_blocks("layer_norm", width)["ROWS"])
    vectors = adds + 2 * norms
    return Cost(
        (1 + adds) * activations + programs * vectors * vector,
        (adds + norms) * activations + norms * 2 * tokens * FLOAT,
        (1 + 2 * adds + norms) * activations + vectors * vector,
    )


def backward_cost(face: Face, tokens: int, width: int, size: int, dropped: bool) -> Cost:
    """Of gradients of all outputs; the partial sums of the vectors' gradients out and in."""
    adds, norms = face != "layer_norm", face != "add"
    activations, vector = tokens * width * size, width * size
    blocks = choose_blocks("layer_norm_backward", width)
    programs = min(blocks["PROGRAMS"], -(-tokens // blocks["ROWS"]))
    vectors = adds + 2 * norms
    partials = vectors * programs * width * FLOAT
    read, written = (adds + 2 * norms) * activations, (norms + dropped) * activations
    return Cost(
        read + norms * (2 * tokens * FLOAT + programs * vector) + partials,
        written + partials + vectors * vector,
        read + written + (norms + vectors) * vector,
    )


def plain_moved(face: Face, tokens: int, width: int, size: int, dropped: bool, backward: bool) -> int:
    """Bytes that torch moves, without what vectors and statistics need; dropout has a mask of bytes.

    Forward: dropout, sum, LayerNorm. Backward: LayerNorm reads its input and its gradient twice, once for the gradients
    of the vectors; the gradients of the total are added; dropout; the column sums of the bias gradient.
    """
    adds, norms = face != "layer_norm", face != "add"
    dropout = dropped * (2 * size + 1)
    moved = dropout + adds * 3 * size + norms * 2 * size
    if backward:
        moved += norms * 5 * size + (adds and norms) * 3 * size + dropout + adds * size
    return tokens * width * moved


def cases(model: ModelConfig, targets: int, tokens: int) -> list[Case]:
    """The three faces: inside the stack, at its beginning, at its end."""
    width, rate = model.hidden_size, model.dropout
    found = []
    for face, remark in SHAPES.items():
        shape = f"{tokens} x {width}{remark}"
        make = partial(_make, tokens, width)
        kernel, plain = partial(_fused, face, Draw(rate, seed=1)), partial(_unfused, face, rate)
        dropped, alone = rate > 0.0 and face != "layer_norm", face == "layer_norm"
        forward, backward = forward_cost(face, tokens, width, 2), backward_cost(face, tokens, width, 2, dropped)
        found += [
            Case(
                "layer_norm", shape, "forward", make, partial(_forward, kernel), partial(_forward, plain), forward,
                plain_moved(face, tokens, width, 2, dropped, backward=False),
                {"liger": partial(_forward, _liger)} if alone else {},
            ),
            Case(
                "layer_norm", shape, "both", make, partial(_both, kernel), partial(_both_plain, face, plain),
                forward + backward, plain_moved(face, tokens, width, 2, dropped, backward=True),
                {"liger": partial(_both, _liger)} if alone else {},
            ),
        ]  # fmt: skip
    return found


def _make(tokens: int, width: int, device: torch.device) -> tuple[Tensor, ...]:
    """x, bias, residual, weight and shift, then the gradients of the total and of its LayerNorm."""
    shapes = ((tokens, width), (width,), (tokens, width), (width,), (width,), (tokens, width), (tokens, width))
    tensors = tuple(torch.randn(shape, dtype=torch.bfloat16, device=device) for shape in shapes)
    for tensor in tensors[:5]:
        tensor.requires_grad_()
    return tensors


def _fused(
    face: Face, draw: Draw, x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor
) -> tuple[Tensor, ...]:
    if face == "add_layer_norm":
        return add_layer_norm(x, bias, residual, weight, shift, draw)
    return (add(x, bias, residual, draw),) if face == "add" else (layer_norm(x, weight, shift),)


def _unfused(
    face: Face, rate: float, x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor
) -> tuple[Tensor, ...]:
    """Without the bias, which a linear layer of torch adds as it writes its product."""
    if face == "layer_norm":
        return (functional.layer_norm(x, weight.shape, weight, shift),)
    total = residual + functional.dropout(x, rate)
    return (total,) if face == "add" else (total, functional.layer_norm(total, weight.shape, weight, shift))


def _liger(x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor) -> tuple[Tensor]:
    return (liger_layer_norm(x, weight, shift),)


@torch.no_grad()
def _forward(run: Run, *tensors: Tensor) -> tuple[Tensor, ...]:
    return run(*tensors[:5])


def _both(run: Run, *tensors: Tensor) -> tuple[Tensor | None, ...]:
    outputs = run(*tensors[:5])
    return torch.autograd.grad(outputs, tensors[:5], tensors[5 : 5 + len(outputs)], allow_unused=True)


def _both_plain(face: Face, run: Run, *tensors: Tensor) -> tuple[Tensor | None, ...]:
    """With the gradient of the bias, which a linear layer of torch sums apart."""
    below, *others = _both(run, *tensors)
    assert below is not None
    return (below, *others) if face == "layer_norm" else (below, below.sum(0), *others[1:])
