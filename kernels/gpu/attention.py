"""Attention over packed rows in Triton, forward and backward (the online softmax of Dao et al. 2022, arXiv 2205.14135).

A program owns a block of positions of one head. Since the positions of a segment stand together, what the block has to
do with lies between the start of its first segment and the end of its last one: the rest of the row is never loaded.
Only the logarithm of each softmax's denominator is kept for the backward pass, where the program computes the gradients
of its block as keys and values, then as queries; so no gradient is written by two programs.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from hzlm.kernels.checks import check_float, check_like
from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.packed_row import find_reach, find_visible, load_head, round_like, store_head
from hzlm.kernels.gpu.philox import keep

HEAD_SIZES = (32, 64, 96, 128)
LOG2_E = 1.4426950408889634


@triton.jit(do_not_specialize=["seed", "row", "column"])
def _forward(
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    segments: tl.tensor,
    out: tl.tensor,
    logsumexp: tl.tensor,
    query_pitch: tl.tensor,
    key_pitch: tl.tensor,
    value_pitch: tl.tensor,
    length: tl.tensor,
    heads: tl.tensor,
    scale: tl.tensor,
    seed: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    HEAD: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
    LENGTH: tl.constexpr,  # noqa: N803
    CAUSAL: tl.constexpr,  # noqa: N803
    THRESHOLD: tl.constexpr,  # noqa: N803
    SCALE: tl.constexpr,  # noqa: N803
    UPCAST: tl.constexpr,  # noqa: N803
    PRECISION: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    STEP: tl.constexpr,  # noqa: N803
) -> None:
    """A block of queries of one head. `scale` has log2(e) in it; `logsumexp` [rows, heads, length] is to base 2."""
    blocks = tl.cdiv(length, BLOCK)
    first = tl.program_id(0) % blocks * BLOCK
    own_head, own_row = tl.program_id(0) // blocks % heads, tl.program_id(0) // blocks // heads
    before = own_row.to(tl.int64) * length
    segments += before
    query += before * query_pitch + own_head * HEAD
    key += before * key_pitch + own_head * HEAD
    value += before * value_pitch + own_head * HEAD
    places = first + tl.arange(0, BLOCK)
    own_segment = tl.load(segments + places, mask=places < length, other=0)
    q = load_head(query, places, query_pitch, length, HEAD, WIDTH, UPCAST)
    start, end = find_reach(segments, length, first, BLOCK, LENGTH)
    if CAUSAL:
        end = tl.minimum(end, first + BLOCK)
    highest = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    mixed = tl.zeros([BLOCK, WIDTH], tl.float32)
    for begin in range(start, end, STEP):
        others = begin + tl.arange(0, STEP)
        segment = tl.load(segments + others, mask=others < length, other=0)
        k = load_head(key, others, key_pitch, length, HEAD, WIDTH, UPCAST)
        v = load_head(value, others, value_pitch, length, HEAD, WIDTH, UPCAST)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        scores = tl.where(find_visible(places, others, own_segment, segment, CAUSAL), scores, float("-inf"))
        risen = tl.maximum(highest, tl.max(scores, 1))
        # a query that has seen no key yet has no highest score to subtract
        pivot = tl.where(risen == float("-inf"), 0.0, risen)
        weights = tl.exp2(scores - pivot[:, None])
        shrink = tl.exp2(highest - pivot)
        total = total * shrink + tl.sum(weights, 1)
        if THRESHOLD > 0:
            kept = keep(seed, begin, places, column + own_head, row + own_row, THRESHOLD, BLOCK, STEP)
            weights = tl.where(kept, weights * SCALE, 0.0)
        mixed = mixed * shrink[:, None] + tl.dot(round_like(weights, value, UPCAST), v, input_precision=PRECISION)
        highest = risen
    seen = total != 0.0
    mixed = mixed / tl.where(seen, total, 1.0)[:, None]
    store_head(out + before * heads * HEAD + own_head * HEAD, places, heads * HEAD, length, mixed, HEAD, WIDTH)
    summed = tl.where(seen, highest + tl.log2(tl.where(seen, total, 1.0)), 0.0)
    tl.store(logsumexp + before * heads + own_head * length + places, summed, mask=places < length)


@triton.jit(do_not_specialize=["seed", "row", "column"])
def _backward(
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    segments: tl.tensor,
    out: tl.tensor,
    logsumexp: tl.tensor,
    out_gradient: tl.tensor,
    query_gradient: tl.tensor,
    key_gradient: tl.tensor,
    value_gradient: tl.tensor,
    query_pitch: tl.tensor,
    key_pitch: tl.tensor,
    value_pitch: tl.tensor,
    gradient_pitch: tl.tensor,
    length: tl.tensor,
    heads: tl.tensor,
    scale: tl.tensor,
    seed: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    HEAD: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
    LENGTH: tl.constexpr,  # noqa: N803
    CAUSAL: tl.constexpr,  # noqa: N803
    THRESHOLD: tl.constexpr,  # noqa: N803
    SCALE: tl.constexpr,  # noqa: N803
    UPCAST: tl.constexpr,  # noqa: N803
    PRECISION: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    STEP: tl.constexpr,  # noqa: N803
) -> None:
    """The gradients of a block of positions of one head: of its keys and values, then of its queries."""
    blocks = tl.cdiv(length, BLOCK)
    first = tl.program_id(0) % blocks * BLOCK
    own_head, own_row = tl.program_id(0) // blocks % heads, tl.program_id(0) // blocks // heads
    third, fourth = column + own_head, row + own_row
    before = own_row.to(tl.int64) * length
    segments += before
    query += before * query_pitch + own_head * HEAD
    key += before * key_pitch + own_head * HEAD
    value += before * value_pitch + own_head * HEAD
    out_gradient += before * gradient_pitch + own_head * HEAD
    pitch = heads * HEAD
    at = before * pitch + own_head * HEAD
    out += at
    logsumexp += before * heads + own_head * length
    places = first + tl.arange(0, BLOCK)
    inside = places < length
    own_segment = tl.load(segments + places, mask=inside, other=0)
    start, end = find_reach(segments, length, first, BLOCK, LENGTH)

    k = load_head(key, places, key_pitch, length, HEAD, WIDTH, UPCAST)
    v = load_head(value, places, value_pitch, length, HEAD, WIDTH, UPCAST)
    dk = tl.zeros([BLOCK, WIDTH], tl.float32)
    dv = tl.zeros([BLOCK, WIDTH], tl.float32)
    for begin in range(first if CAUSAL else start, end, STEP):
        others = begin + tl.arange(0, STEP)
        segment = tl.load(segments + others, mask=others < length, other=0)
        q = load_head(query, others, query_pitch, length, HEAD, WIDTH, UPCAST)
        do = load_head(out_gradient, others, gradient_pitch, length, HEAD, WIDTH, UPCAST)
        o = load_head(out, others, pitch, length, HEAD, WIDTH, UPCAST)
        # sum over keys of weight x gradient of the weight: what the softmax takes off (Dao et al., appendix B.4)
        delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
        summed = tl.load(logsumexp + others, mask=others < length, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        visible = find_visible(others, places, segment, own_segment, CAUSAL)
        weights = tl.where(visible, tl.exp2(scores - summed[:, None]), 0.0)
        dropped = weights
        change = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        if THRESHOLD > 0:
            kept = keep(seed, first, others, third, fourth, THRESHOLD, STEP, BLOCK)
            dropped = tl.where(kept, weights * SCALE, 0.0)
            change = tl.where(kept, change * SCALE, 0.0)
        dv += tl.dot(tl.trans(round_like(dropped, value, UPCAST)), do, input_precision=PRECISION)
        ds = round_like(weights * (change - delta[:, None]), query, UPCAST)
        dk += tl.dot(tl.trans(ds), q, input_precision=PRECISION)
    # `scale` counts in powers of 2
    natural = scale * 0.6931471805599453
    store_head(key_gradient + at, places, pitch, length, dk * natural, HEAD, WIDTH)
    store_head(value_gradient + at, places, pitch, length, dv, HEAD, WIDTH)

    q = load_head(query, places, query_pitch, length, HEAD, WIDTH, UPCAST)
    do = load_head(out_gradient, places, gradient_pitch, length, HEAD, WIDTH, UPCAST)
    o = load_head(out, places, pitch, length, HEAD, WIDTH, UPCAST)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    summed = tl.load(logsumexp + places, mask=inside, other=0.0)
    dq = tl.zeros([BLOCK, WIDTH], tl.float32)
    for begin in range(start, tl.minimum(end, first + BLOCK) if CAUSAL else end, STEP):
        others = begin + tl.arange(0, STEP)
        segment = tl.load(segments + others, mask=others < length, other=0)
        near = load_head(key, others, key_pitch, length, HEAD, WIDTH, UPCAST)
        mix = load_head(value, others, value_pitch, length, HEAD, WIDTH, UPCAST)
        scores = tl.dot(q, tl.trans(near), input_precision=PRECISION) * scale
        visible = find_visible(places, others, own_segment, segment, CAUSAL)
        weights = tl.where(visible, tl.exp2(scores - summed[:, None]), 0.0)
        change = tl.dot(do, tl.trans(mix), input_precision=PRECISION)
        if THRESHOLD > 0:
            kept = keep(seed, begin, places, third, fourth, THRESHOLD, BLOCK, STEP)
            change = tl.where(kept, change * SCALE, 0.0)
        ds = round_like(weights * (change - delta[:, None]), key, UPCAST)
        dq += tl.dot(ds, near, input_precision=PRECISION)
    store_head(query_gradient + at, places, pitch, length, dq * natural, HEAD, WIDTH)


def attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Tensor, causal: bool = False, draw: Draw = NO_DROPOUT
) -> Tensor:
    """As `hzlm.kernels.attention.attention`; a query in segment 0 gets zeros, and gives none of them a gradient.

    Args:
        query, key, value: [rows, length, heads, head size], fp16, bf16 or fp32; head size 32, 64, 96 or 128. They are
            copied unless [rows * length, heads * head size] is a view of theirs with rows at one distance.
        segments: int32 [rows, length].
        causal: whether a query sees no key behind it.
        draw: dropout of attention weights.

    Raises:
        ValueError: an argument does not fit; it is named.
    """
    check_float("query", query, 4)
    rows, length, _, size = query.shape
    if size not in HEAD_SIZES:
        raise ValueError(f"query has head size {size}; it must be one of {', '.join(map(str, HEAD_SIZES))}")
    check_like("key", key, query.shape, query)
    check_like("value", value, query.shape, query)
    check_like("segments", segments, (rows, length), query, torch.int32)
    mixed: Tensor = _Attention.apply(query, key, value, segments, causal, draw)
    return mixed


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: Tensor, causal: bool, draw: Draw
    ) -> Tensor:
        rows, length, heads, _ = query.shape
        out = query.new_empty(query.shape)
        logsumexp = query.new_empty((rows, heads, length), dtype=torch.float32)
        query, key, value = map(_flatten, (query, key, value))
        segments = segments.contiguous()
        grid, constants = _plan("attention_forward", out, causal, draw)
        if out.numel() > 0:
            _forward[grid](
                query, key, value, segments, out, logsumexp, *(x.stride(0) for x in (query, key, value)),
                *_scalars(out, draw), **constants,
            )  # fmt: skip
        ctx.save_for_backward(query, key, value, segments, out, logsumexp)
        ctx.causal, ctx.draw = causal, draw
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, segments, out, logsumexp = ctx.saved_tensors
        out_gradient = _flatten(out_gradient)
        gradients = [out.new_empty(out.shape) for _ in range(3)]
        grid, constants = _plan("attention_backward", out, ctx.causal, ctx.draw)
        if out.numel() > 0:
            pitches = (x.stride(0) for x in (query, key, value, out_gradient))
            _backward[grid](
                query, key, value, segments, out, logsumexp, out_gradient, *gradients, *pitches,
                *_scalars(out, ctx.draw), **constants,
            )  # fmt: skip
        return *gradients, None, None, None


def _flatten(x: Tensor) -> Tensor:
    """[rows, length, heads, size] -> [rows * length, heads * size], a copy unless that is a view without gaps in it."""
    rows, length, heads, size = x.shape
    flat = x.reshape(rows * length, heads * size)
    return flat if flat.stride(1) == 1 else flat.contiguous()


def _scalars(out: Tensor, draw: Draw) -> tuple[float, ...]:
    _, length, heads, size = out.shape
    return length, heads, size**-0.5 * LOG2_E, draw.seed, draw.row, draw.column


def _plan(name: str, out: Tensor, causal: bool, draw: Draw) -> tuple[tuple[int], dict[str, Any]]:
    """Grid and compile-time arguments of a launch."""
    rows, length, heads, size = out.shape
    # products in full float32 are not the tensor cores' and need smaller blocks
    full = out.dtype == torch.float32
    blocks = choose_blocks(f"{name}_float32" if full else name, size)
    constants = {
        "HEAD": size,
        "WIDTH": triton.next_power_of_2(size),
        "LENGTH": triton.next_power_of_2(length),
        "CAUSAL": causal,
        "THRESHOLD": draw.threshold,
        "SCALE": draw.scale,
        "UPCAST": bool(triton.knobs.runtime.interpret) and out.dtype == torch.bfloat16,
        "PRECISION": "ieee" if full else "tf32",
    }
    return (rows * heads * triton.cdiv(length, blocks["BLOCK"]),), constants | blocks
