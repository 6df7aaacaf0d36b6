"""Attention of one query a row over a cache in Triton.

A program owns one head of one row and reads of the cache what the row sees, once. Every place of its block keeps a
softmax of its own, of the positions that come by there; they become one at the end. So the loop adds up nothing across
threads.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hzlm.kernels.checks import check_float, check_like
from hzlm.kernels.gpu.blocks import choose_blocks

LOG2_E = 1.4426950408889634
HOST = torch.empty(0)
"""Lengths are where this is."""


@triton.jit
def _attend(
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    lengths: tl.tensor,
    out: tl.tensor,
    query_row: tl.tensor,
    query_head: tl.tensor,
    keys_row: tl.tensor,
    keys_place: tl.tensor,
    keys_head: tl.tensor,
    values_row: tl.tensor,
    values_place: tl.tensor,
    values_head: tl.tensor,
    heads: tl.tensor,
    scale: tl.tensor,
    HEAD: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """One head of one row. What ends in _row, _place and _head are strides; `scale` has log2(e) in it."""
    # 64 bits, since a cache may have more than 2^31 numbers
    head, row = (tl.program_id(0) % heads).to(tl.int64), (tl.program_id(0) // heads).to(tl.int64)
    length = tl.load(lengths + row)
    place = tl.arange(0, BLOCK)
    feature = tl.arange(0, WIDTH)
    known = feature < HEAD
    q = tl.load(query + row * query_row + head * query_head + feature, mask=known, other=0.0).to(tl.float32) * scale
    keys += row * keys_row + head * keys_head
    values += row * values_row + head * values_head
    highest = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    mixed = tl.zeros([BLOCK, WIDTH], tl.float32)
    for begin in range(0, length, BLOCK):
        position = begin + place
        seen = position < length
        inside = seen[:, None] & known[None, :]
        far = position.to(tl.int64)[:, None]
        k = tl.load(keys + far * keys_place + feature[None, :], mask=inside, other=0.0).to(tl.float32)
        v = tl.load(values + far * values_place + feature[None, :], mask=inside, other=0.0).to(tl.float32)
        scores = tl.where(seen, tl.sum(k * q[None, :], 1), float("-inf"))
        risen = tl.maximum(highest, scores)
        # a place that no position has come by has no highest score to subtract
        pivot = tl.where(risen == float("-inf"), 0.0, risen)
        weights, shrink = tl.exp2(scores - pivot), tl.exp2(highest - pivot)
        total = total * shrink + weights
        mixed = mixed * shrink[:, None] + weights[:, None] * v
        highest = risen
    peak = tl.max(highest, 0)
    share = tl.exp2(highest - tl.where(peak == float("-inf"), 0.0, peak))
    everything = tl.sum(total * share, 0)
    mean = tl.sum(mixed * share[:, None], 0) / tl.where(everything == 0.0, 1.0, everything)
    at = (row * heads + head) * HEAD + feature
    tl.store(out + at, mean.to(out.dtype.element_ty), mask=known)


def cached_attention(query: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """As `hzlm.kernels.cached_attention.cached_attention`.

    Args:
        query: [rows, heads, head size], fp16, bf16 or fp32.
        keys, values: [rows, length, heads, head size]. Their strides are free, but those of the last dimension are 1 or
            the whole cache is copied.
        lengths: int32 [rows], on the CPU, each in 0..length.

    Raises:
        ValueError: an argument does not fit; it is named.
    """
    check_float("query", query, 3)
    check_float("keys", keys, 4)
    rows, heads, size = query.shape
    length = keys.shape[1]
    check_like("keys", keys, (rows, length, heads, size), query)
    check_like("values", values, keys.shape, query)
    check_like("lengths", lengths, (rows,), HOST, torch.int32)
    if ((lengths < 0) | (lengths > length)).any():
        raise ValueError(f"lengths has {lengths.tolist()}; each must be in 0..{length}")
    query, keys, values = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, keys, values))
    out = query.new_empty(rows, heads, size)
    if out.numel() > 0:
        _attend[(rows * heads,)](
            query, keys, values, lengths.to(query.device, non_blocking=True), out,
            *query.stride()[:2], *keys.stride()[:3], *values.stride()[:3], heads, size**-0.5 * LOG2_E,
            HEAD=size, WIDTH=triton.next_power_of_2(size), **choose_blocks("cached_attention", size),
        )  # fmt: skip
    return out
