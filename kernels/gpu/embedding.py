"""The first layer as Triton kernels: token vectors and place vectors added, and dropped out, in one pass; the gradients
of the tables are sums by id (`sum_by_id`)."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from hzlm.kernels.checks import check_features, check_float, check_like
from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.philox import keep
from hzlm.kernels.gpu.rows import as_rows
from hzlm.kernels.gpu.sum_by_id import sum_by_id


def embed(
    tokens: Tensor, table: Tensor, places: Tensor, place_tables: Sequence[Tensor], draw: Draw = NO_DROPOUT
) -> Tensor:
    """Vectors of tokens and of their places, added, and dropout; differentiable; see `hzlm.kernels.embedding`.

    Args:
        tokens: int64 [2, R, L], of the source and of the target.
        table: [V, W], float16, bfloat16 or float32.
        places: int64 [R, L].
        place_tables: of the source and of the target, each [P, W] of the same dtype.
        draw: as there.

    Returns:
        [2, R, L, W]. An index outside its table gives a row of NaN (torch would raise an IndexError), since the host
        does not wait to see it; no gradient comes from such a position.

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    check_float("table", table, 2)
    if tokens.dim() != 3:
        raise ValueError(f"tokens has {tokens.dim()} dimensions; it must have 3")
    check_like("tokens", tokens, (2, *tokens.shape[1:]), table, torch.int64)
    _check_places(tokens.shape, table, places, place_tables, draw)
    result: Tensor = _Embed.apply(table, tokens.contiguous(), places.contiguous(), *place_tables, draw)
    return result


def add_places(vectors: Tensor, places: Tensor, place_tables: Sequence[Tensor], draw: Draw = NO_DROPOUT) -> Tensor:
    """As `embed`, of token vectors [2, R, L, W] that have been found already."""
    check_float("vectors", vectors, 4)
    check_like("vectors", vectors, (2, *vectors.shape[1:]), vectors)
    _check_places(vectors.shape[:-1], vectors, places, place_tables, draw)
    result: Tensor = _Embed.apply(vectors, None, places.contiguous(), *place_tables, draw)
    return result


def _check_places(shape: torch.Size, like: Tensor, places: Tensor, tables: Sequence[Tensor], draw: Draw) -> None:
    check_like("places", places, shape[1:], like, torch.int64)
    if len(tables) != 2:
        raise ValueError(f"place_tables has {len(tables)} tables; it must have 2, of the source and of the target")
    for number, table in enumerate(tables):
        check_like(f"place_tables[{number}]", table, (tables[0].shape[0], like.shape[-1]), like)
    check_features(draw)


class _Embed(torch.autograd.Function):
    """Of vectors [V, W] and tokens, or of vectors [2, R, L, W] alone."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, tokens: Tensor | None, places: Tensor, source: Tensor, target: Tensor, draw: Draw
    ) -> Tensor:
        ctx.save_for_backward(tokens, places)
        ctx.rows, ctx.length, ctx.draw = vectors.shape[0], source.shape[0], draw
        return _embed(vectors, tokens, places, (source, target), draw)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tokens, places = ctx.saved_tensors
        draw, rows = ctx.draw, as_rows(gradient)
        if tokens is not None:
            below = sum_by_id(rows, tokens.flatten(), ctx.rows, draw)
        else:
            below = gradient if draw.rate == 0.0 else _embed(gradient, None, places, None, draw)
        # not from `below`, which is rounded
        return below, None, None, *_sum_by_place(rows, places, ctx.length, draw), None


def _embed(
    vectors: Tensor, tokens: Tensor | None, places: Tensor, place_tables: tuple[Tensor, Tensor] | None, draw: Draw
) -> Tensor:
    """Dropout of vectors [2, R, L, W], or of those rows [V, W] that tokens name, and of the places, where given."""
    width = vectors.shape[-1]
    if vectors.stride(-1) != 1:
        vectors = vectors.contiguous()
    # of a sequence, of a row in it and of a position in that; of a table only the last is used
    strides = (0, 0, *vectors.stride()[:-1])[-3:]
    source, target = (vectors, vectors) if place_tables is None else (table.contiguous() for table in place_tables)
    out = torch.empty((2, *places.shape, width), dtype=vectors.dtype, device=vectors.device)
    blocks = choose_blocks("embedding", width)
    across, down = triton.cdiv(width, blocks["COLUMNS"]), triton.cdiv(places.numel(), blocks["ROWS"])
    _embed_kernel[(2 * down * across,)](
        vectors, places if tokens is None else tokens, places, source, target, out,
        places.numel(), places.shape[1], width, *strides, vectors.shape[0], source.shape[0],
        draw.seed, draw.row, draw.column,
        THRESHOLD=draw.threshold, SCALE=draw.scale, GATHER=tokens is not None, PLACES=place_tables is not None,
        **blocks,
    )  # fmt: skip
    return out


def _sum_by_place(rows: Tensor, places: Tensor, length: int, draw: Draw) -> tuple[Tensor, ...]:
    """Gradients of the two place tables: one sum by id, where those of the target follow those of the source."""
    known = (places >= 0) & (places < length)
    ids = torch.cat([torch.where(known, places + first, -1).flatten() for first in (0, length)])
    return sum_by_id(rows, ids, 2 * length, draw).split(length)


@triton.jit(do_not_specialize=["seed", "row", "column"])
def _embed_kernel(
    vectors: tl.tensor,
    tokens: tl.tensor,
    places: tl.tensor,
    source: tl.tensor,
    target: tl.tensor,
    out: tl.tensor,
    positions: tl.tensor,
    row_length: tl.tensor,
    width: tl.tensor,
    sequence_stride: tl.tensor,
    row_stride: tl.tensor,
    stride: tl.tensor,
    rows: tl.tensor,
    length: tl.tensor,
    seed: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    THRESHOLD: tl.constexpr,  # noqa: N803
    SCALE: tl.constexpr,  # noqa: N803
    GATHER: tl.constexpr,  # noqa: N803
    PLACES: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
) -> None:
    """A program ROWS positions of one sequence and COLUMNS features."""
    across, down = tl.cdiv(width, COLUMNS), tl.cdiv(positions, ROWS)
    first, block = tl.program_id(0) % across * COLUMNS, tl.program_id(0) // across
    columns = first + tl.arange(0, COLUMNS)
    place = block % down * ROWS + tl.arange(0, ROWS)
    here = place < positions
    inside = here[:, None] & (columns < width)[None, :]
    sequence = (block // down).to(tl.int64)
    number = sequence * positions + place
    known = inside
    if GATHER:
        index = tl.load(tokens + number, mask=here, other=-1)
        known &= ((index >= 0) & (index < rows))[:, None]
        begin = index * stride
    else:
        row_of, place_of = (place // row_length).to(tl.int64), (place % row_length).to(tl.int64)
        begin = sequence * sequence_stride + row_of * row_stride + place_of * stride
    value = tl.load(vectors + begin[:, None] + columns[None, :], mask=known, other=float("nan")).to(tl.float32)
    if PLACES:
        index = tl.load(places + place, mask=here, other=-1)
        known = inside & ((index >= 0) & (index < length))[:, None]
        table = tl.where(sequence == 0, source, target)
        added = tl.load(table + index[:, None] * width + columns[None, :], mask=known, other=float("nan"))
        value += added.to(tl.float32)
    if THRESHOLD > 0:
        kept = keep(seed, column + first, 2 * (row + place) + sequence, 0, 0, THRESHOLD, ROWS, COLUMNS)
        value = tl.where(kept, value * SCALE, 0.0)
    tl.store(out + number[:, None] * width + columns[None, :], value, mask=inside)
