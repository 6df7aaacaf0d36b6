"""Bias, dropout, residual and LayerNorm as Triton kernels; what they compute stands in `hzlm.kernels.layer_norm`.

A row stays in the registers of one program. The backward pass needs the total and two numbers a token; it draws the
dropout mask anew. The gradients of weight, shift and bias are summed in two stages: each of a fixed number of programs
leaves what its own tokens give, then a small kernel sums these.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from hzlm.kernels.checks import check_features, check_float, check_like
from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.column_sums import sum_columns
from hzlm.kernels.gpu.philox import keep
from hzlm.kernels.gpu.rows import as_rows

Maybe = Tensor | None
WIDEST = 8192
"""Wider rows do not fit the registers of a program."""


@triton.jit(do_not_specialize=["tokens", "seed", "row", "column"])
def _forward(
    x: tl.tensor,
    bias: tl.tensor,
    residual: tl.tensor,
    weight: tl.tensor,
    shift: tl.tensor,
    total: tl.tensor,
    normal: tl.tensor,
    statistics: tl.tensor,
    tokens: tl.tensor,
    width: tl.tensor,
    x_stride: tl.tensor,
    residual_stride: tl.tensor,
    eps: tl.tensor,
    seed: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    THRESHOLD: tl.constexpr,  # noqa: N803
    SCALE: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
) -> None:
    """ROWS tokens: the total where there is a residual, else x is the total; its LayerNorm where there is a normal."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    present, inside = rows < tokens, columns < width
    mask = present[:, None] & inside[None, :]
    far = rows.to(tl.int64)[:, None]
    place = far * width + columns[None, :]
    value = tl.load(x + far * x_stride + columns[None, :], mask, other=0.0)
    if normal is not None:
        # here, so that nobody waits for them below
        scale = tl.load(weight + columns, inside, other=0.0)
        moved = tl.load(shift + columns, inside, other=0.0)
    if residual is not None:
        added = tl.load(residual + far * residual_stride + columns[None, :], mask, other=0.0)
        biased = value.to(tl.float32) + tl.load(bias + columns, inside, other=0.0).to(tl.float32)[None, :]
        if THRESHOLD != 0:
            # a product, so that what is not finite stays so where it is dropped
            biased *= tl.where(keep(seed, column, row + rows, 0, 0, THRESHOLD, ROWS, COLUMNS), SCALE, 0.0)
        value = (added.to(tl.float32) + biased).to(value.dtype)
        tl.store(total + place, value, mask)
    if normal is not None:
        exact = value.to(tl.float32)
        mean = tl.sum(exact, axis=1) / width
        centred = tl.where(inside[None, :], exact - mean[:, None], 0.0)
        rstd = tl.rsqrt(tl.sum(centred * centred, axis=1) / width + eps)
        tl.store(statistics + 2 * rows[:, None] + tl.arange(0, 2)[None, :], tl.join(mean, rstd), present[:, None])
        scaled = centred * rstd[:, None] * scale.to(tl.float32)[None, :] + moved.to(tl.float32)[None, :]
        tl.store(normal + place, scaled, mask)


@triton.jit(do_not_specialize=["tokens", "seed", "row", "column"])
def _backward(
    total: tl.tensor,
    total_gradient: tl.tensor,
    normal_gradient: tl.tensor,
    statistics: tl.tensor,
    weight: tl.tensor,
    residual_gradient: tl.tensor,
    x_gradient: tl.tensor,
    partial: tl.tensor,
    tokens: tl.tensor,
    width: tl.tensor,
    total_stride: tl.tensor,
    total_gradient_stride: tl.tensor,
    normal_gradient_stride: tl.tensor,
    seed: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    THRESHOLD: tl.constexpr,  # noqa: N803
    SCALE: tl.constexpr,  # noqa: N803
    HAS_BIAS: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
    num_stages: tl.constexpr,
) -> None:
    """Every so many blocks of ROWS tokens: the gradients by token that are wanted, and this program's part of the sums.

    The parts stand in `partial` [sums, programs, width]: that of the bias, then those of weight and shift.
    """
    columns = tl.arange(0, COLUMNS)
    inside = columns < width
    if normal_gradient is not None:
        scale = tl.load(weight + columns, inside, other=0.0).to(tl.float32)[None, :]
        weight_part = tl.zeros([ROWS, COLUMNS], tl.float32)
        shift_part = tl.zeros([ROWS, COLUMNS], tl.float32)
    if HAS_BIAS:
        bias_part = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in tl.range(tl.program_id(0) * ROWS, tokens, tl.num_programs(0) * ROWS, num_stages=num_stages):
        rows = start + tl.arange(0, ROWS)
        present = rows < tokens
        mask = present[:, None] & inside[None, :]
        far = rows.to(tl.int64)[:, None]
        place = far * width + columns[None, :]
        gradient = tl.zeros([ROWS, COLUMNS], tl.float32)
        if normal_gradient is not None:
            value = tl.load(total + far * total_stride + columns[None, :], mask, other=0.0)
            given = tl.load(normal_gradient + far * normal_gradient_stride + columns[None, :], mask, other=0.0)
            mean = tl.load(statistics + 2 * rows, present, other=0.0)
            rstd = tl.load(statistics + 2 * rows + 1, present, other=0.0)[:, None]
            standard = (value.to(tl.float32) - mean[:, None]) * rstd
            given = given.to(tl.float32)
            weight_part += given * standard
            shift_part += given
            # Ba et al. 2016, supplement: what is left of the gradient is without mean and without the direction of x
            given *= scale
            mean, along = tl.split(tl.sum(tl.join(given, given * standard), axis=1) / width)
            gradient += rstd * (given - mean[:, None] - standard * along[:, None])
        if total_gradient is not None:
            gradient += tl.load(total_gradient + far * total_gradient_stride + columns[None, :], mask, other=0.0)
        if normal_gradient is not None:
            tl.store(residual_gradient + place, gradient, mask)
        if THRESHOLD != 0:
            gradient *= tl.where(keep(seed, column, row + rows, 0, 0, THRESHOLD, ROWS, COLUMNS), SCALE, 0.0)
            tl.store(x_gradient + place, gradient, mask)
        if HAS_BIAS:
            bias_part += gradient
    place = partial + tl.program_id(0) * width + columns
    if HAS_BIAS:
        tl.store(place, tl.sum(bias_part, axis=0), inside)
        place += tl.num_programs(0) * width
    if normal_gradient is not None:
        tl.store(place, tl.sum(weight_part, axis=0), inside)
        tl.store(place + tl.num_programs(0) * width, tl.sum(shift_part, axis=0), inside)


def layer_norm(x: Tensor, weight: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """As `hzlm.kernels.layer_norm.layer_norm`, differentiable once: x [..., W], weight and shift [W].

    Raises:
        ValueError: an argument has another shape, dtype or device, W is more than 8192, or the dtype is none of
            float16, bfloat16 and float32.
    """
    _check(x, {"weight": weight, "shift": shift})
    normal: Tensor = _AddLayerNorm.apply(x, None, None, weight, shift, NO_DROPOUT, eps)[1]
    return normal


def add(x: Tensor, bias: Tensor, residual: Tensor, draw: Draw = NO_DROPOUT) -> Tensor:
    """As `hzlm.kernels.layer_norm.add`, differentiable once: x and residual [..., W], bias [W].

    The token of an element is the index over all dimensions but the last, its feature the last one's.

    Raises:
        ValueError: as `layer_norm` does, or the draw has an impossible rate or starts within a group of four features.
    """
    _check(x, {"bias": bias}, residual, draw)
    total: Tensor = _AddLayerNorm.apply(x, bias, residual, None, None, draw, 0.0)[0]
    return total


def add_layer_norm(
    x: Tensor, bias: Tensor, residual: Tensor, weight: Tensor, shift: Tensor, draw: Draw = NO_DROPOUT, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """As `hzlm.kernels.layer_norm.add_layer_norm`; arguments and errors are those of `add` and `layer_norm`."""
    _check(x, {"bias": bias, "weight": weight, "shift": shift}, residual, draw)
    outputs: tuple[Tensor, Tensor] = _AddLayerNorm.apply(x, bias, residual, weight, shift, draw, eps)
    return outputs


def _check(x: Tensor, vectors: dict[str, Tensor], residual: Tensor | None = None, draw: Draw = NO_DROPOUT) -> None:
    check_float("x", x, max(x.dim(), 1))
    width = x.shape[-1]
    if not 1 <= width <= WIDEST:
        raise ValueError(f"x is {width} wide; it must be 1 to {WIDEST} wide")
    if residual is not None:
        check_like("residual", residual, x.shape, x)
    for name, vector in vectors.items():
        check_like(name, vector, (width,), x)
    check_features(draw)


def _rows(tensor: Maybe) -> tuple[Maybe, int]:
    """The tensor `as_rows`, where there is one, and the distance of its rows."""
    if tensor is None:
        return None, 0
    rows = as_rows(tensor)
    return rows, rows.stride(0)


def _constants(draw: Draw, width: int) -> dict[str, Any]:
    """A block holds whole rows, and Philox draws the mask of four columns at once."""
    return {"THRESHOLD": draw.threshold, "SCALE": draw.scale, "COLUMNS": max(triton.next_power_of_2(width), 4)}


class _AddLayerNorm(torch.autograd.Function):
    """(total, normal); without bias and residual x is the total, without weight and shift there is no normal."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Maybe, residual: Maybe, weight: Maybe, shift: Maybe, draw: Draw, eps: float
    ) -> tuple[Maybe, Maybe]:
        bias, weight, shift = (None if vector is None else vector.contiguous() for vector in (bias, weight, shift))
        width = x.shape[-1]
        tokens = x.numel() // width
        total = None if residual is None else x.new_empty(x.shape)
        normal = None if weight is None else x.new_empty(x.shape)
        statistics = None if weight is None else x.new_empty([tokens, 2], dtype=torch.float32)
        if tokens > 0:
            (x_rows, x_stride), (residual_rows, residual_stride) = _rows(x), _rows(residual)
            blocks = choose_blocks("layer_norm", width)
            _forward[(triton.cdiv(tokens, blocks["ROWS"]),)](
                x_rows, bias, residual_rows, weight, shift, total, normal, statistics,
                tokens, width, x_stride, residual_stride, eps, draw.seed, draw.row, draw.column,
                **_constants(draw, width), **blocks,
            )  # fmt: skip
        if weight is not None:
            ctx.save_for_backward(x if total is None else total, statistics, weight)
        ctx.draw, ctx.has_bias = draw, bias is not None
        ctx.set_materialize_grads(False)
        return total, normal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, total_gradient: Maybe, normal_gradient: Maybe) -> tuple[Maybe, ...]:
        like = total_gradient if normal_gradient is None else normal_gradient
        if like is None:
            return (None,) * 7
        draw, has_bias, has_norm = ctx.draw, ctx.has_bias, normal_gradient is not None
        total, statistics, weight = ctx.saved_tensors if has_norm else (None, None, None)
        # one tensor where two gradients are equal: nothing is normalised, or nothing dropped
        residual_gradient = like.new_empty(like.shape) if has_norm else total_gradient
        x_gradient = like.new_empty(like.shape) if draw.threshold > 0 else residual_gradient
        width = like.shape[-1]
        tokens = like.numel() // width
        sums = like.new_empty([has_bias + 2 * has_norm, width])
        if tokens > 0:
            tensors, strides = zip(*map(_rows, (total, total_gradient, normal_gradient)), strict=True)
            blocks = choose_blocks("layer_norm_backward", width)
            programs = min(blocks.pop("PROGRAMS"), triton.cdiv(tokens, blocks["ROWS"]))
            partial = like.new_empty([len(sums), programs, width], dtype=torch.float32)
            _backward[(programs,)](
                *tensors, statistics, weight, residual_gradient, x_gradient, partial,
                tokens, width, *strides, draw.seed, draw.row, draw.column,
                HAS_BIAS=has_bias, **_constants(draw, width), **blocks,
            )  # fmt: skip
            sum_columns(partial, sums)
        else:
            sums.zero_()
        of_bias = sums[0] if has_bias else None
        of_weight, of_shift = sums[-2:] if has_norm else (None, None)
        return x_gradient, of_bias, residual_gradient if has_bias else None, of_weight, of_shift, None, None
