"""Bias, ReLU and dropout as Triton kernels: a pass over the activations each way.

The sign of the output tells what was kept and was positive, so the backward pass neither draws the mask again nor
needs the input. The bias gradient is summed in two stages: each program of the backward pass leaves the column sums of
its own rows, then a small kernel sums these.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from hzlm.kernels.bias_relu_dropout import may_overwrite
from hzlm.kernels.checks import check_features, check_float, check_like
from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.column_sums import sum_columns
from hzlm.kernels.gpu.philox import keep
from hzlm.kernels.gpu.rows import as_rows


def bias_relu_dropout(x: Tensor, bias: Tensor, draw: Draw = NO_DROPOUT) -> Tensor:
    """dropout(relu(x + bias)), differentiable; see `hzlm.kernels.bias_relu_dropout`.

    Args:
        x: [..., F], float16, bfloat16 or float32. Where autograd allows it (`may_overwrite`), the result is written
            over it.
        bias: [F], of the same dtype.
        draw: token = index over the leading dimensions, feature = column.

    Returns:
        [..., F], contiguous. The gradient of x is a tensor of its own: that of the result may be needed elsewhere.

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    check_float("x", x, max(x.dim(), 1))
    check_like("bias", bias, x.shape[-1:], x)
    check_features(draw)
    result: Tensor = _BiasReluDropout.apply(x, bias.contiguous(), draw)
    return result


class _BiasReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, draw: Draw) -> Tensor:
        if may_overwrite(x):
            ctx.mark_dirty(x)
            out = x
        else:
            out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        rows = as_rows(x)
        tokens, width = rows.shape
        blocks = choose_blocks("bias_relu_dropout", width)
        grid = (triton.cdiv(tokens, blocks["ROWS"]) * triton.cdiv(width, blocks["COLUMNS"]),)
        _forward[grid](
            rows, bias, out, tokens, width, rows.stride(0), draw.seed, draw.row, draw.column,
            THRESHOLD=draw.threshold, SCALE=draw.scale, **blocks,
        )  # fmt: skip
        ctx.save_for_backward(out)
        ctx.scale = draw.scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (out,) = ctx.saved_tensors
        rows = as_rows(gradient)
        tokens, width = rows.shape
        blocks = choose_blocks("bias_relu_dropout_backward", width)
        parts = triton.cdiv(tokens, blocks["SPAN"])
        below = torch.empty(out.shape, dtype=out.dtype, device=out.device)
        partials = torch.empty((1, parts, width), dtype=torch.float32, device=out.device)
        grid = (parts * triton.cdiv(width, blocks["COLUMNS"]),)
        _backward[grid](rows, out, below, partials, tokens, width, rows.stride(0), SCALE=ctx.scale, **blocks)
        bias_gradient = torch.empty((1, width), dtype=out.dtype, device=out.device)
        sum_columns(partials, bias_gradient)
        return below, bias_gradient[0], None


@triton.jit(do_not_specialize=["seed", "row", "column"])
def _forward(
    x: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    tokens: tl.tensor,
    width: tl.tensor,
    stride: tl.tensor,
    seed: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    THRESHOLD: tl.constexpr,  # noqa: N803
    SCALE: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
) -> None:
    """A program a block [ROWS, COLUMNS]; the blocks of the same rows follow each other."""
    across = tl.cdiv(width, COLUMNS)
    rows = tl.program_id(0) // across * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(0) % across * COLUMNS
    columns = first + tl.arange(0, COLUMNS)
    inside = (rows < tokens)[:, None] & (columns < width)[None, :]
    wide = rows.to(tl.int64)[:, None]
    value = tl.load(x + wide * stride + columns[None, :], mask=inside).to(tl.float32)
    value += tl.load(bias + columns, mask=columns < width).to(tl.float32)[None, :]
    # not tl.maximum, which turns NaN into 0
    value = tl.where(value <= 0.0, 0.0, value)
    if THRESHOLD > 0:
        kept = keep(seed, column + first, row + rows, 0, 0, THRESHOLD, ROWS, COLUMNS)
        value = tl.where(kept, value * SCALE, 0.0)
    tl.store(out + wide * width + columns[None, :], value, mask=inside)


@triton.jit
def _backward(
    gradient: tl.tensor,
    out: tl.tensor,
    below: tl.tensor,
    partials: tl.tensor,
    tokens: tl.tensor,
    width: tl.tensor,
    stride: tl.tensor,
    SCALE: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
    SPAN: tl.constexpr,  # noqa: N803
) -> None:
    """A program SPAN rows of COLUMNS columns: the gradient of x, and its column sums as a row of partials."""
    across = tl.cdiv(width, COLUMNS)
    part = tl.program_id(0) // across
    columns = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, SPAN, ROWS):
        rows = part * SPAN + start + tl.arange(0, ROWS)
        inside = (rows < tokens)[:, None] & (columns < width)[None, :]
        wide = rows.to(tl.int64)[:, None]
        value = tl.load(gradient + wide * stride + columns[None, :], mask=inside, other=0.0).to(tl.float32)
        result = tl.load(out + wide * width + columns[None, :], mask=inside, other=0.0)
        # as in torch's ReLU, a NaN lets its gradient pass
        value = tl.where(result <= 0.0, 0.0, value * SCALE)
        tl.store(below + wide * width + columns[None, :], value, mask=inside)
        total += value
    tl.store(partials + part.to(tl.int64) * width + columns, tl.sum(total, 0), mask=columns < width)
