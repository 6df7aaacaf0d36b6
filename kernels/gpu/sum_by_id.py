"""The gradient of a table in Triton: for each id the sum of the rows where it stands, without atomics.

One id may stand in a tenth of all positions and most stand in a few, so the positions are sorted by id (a stable sort:
the order of the sum is fixed) and long runs are cut into chunks: one kernel sums the chunks, the next one gives each id
the sum of its few rows, or of its chunks. Only runs of more than one chunk have partial sums, so these are at most
2 / CHUNK of the positions, in float32: with 32,768 positions, chunks of 64 and 2,048 features 8 MB, beside a gradient
of 33 MB.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from hzlm.kernels.dropout import Draw
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.philox import keep


def sum_by_id(rows: Tensor, ids: Tensor, count: int, draw: Draw) -> Tensor:
    """The sum of the rows of each id, in the dtype of the rows: [count, W]; ids outside 0..count are left out.

    Args:
        rows: [positions, W], of the two sequences one behind the other.
        ids: int64 [positions].
        count: ids there are.
        draw: as of `hzlm.kernels.embedding.embed`; what it drops counts for nothing.

    Shapes depend on shapes alone, so that the host never waits. A run of c > CHUNK rows has less than c / CHUNK + 1
    chunks, that is, less than 2 c / CHUNK.
    """
    positions, width = rows.shape
    blocks = choose_blocks("embedding_backward", width)
    chunk = blocks["CHUNK"]
    most = 2 * positions // chunk
    known, order = ids.clamp(-1, count).int().sort(stable=True)
    numbers = torch.arange(max(count, most) + 1, dtype=torch.int32, device=ids.device)
    starts = torch.searchsorted(known, numbers[: count + 1], out_int32=True)
    lengths = starts.diff()
    chunks = torch.where(lengths > chunk, (lengths + chunk - 1) // chunk, 0)
    firsts = functional.pad(chunks.cumsum(0, dtype=torch.int32), (1, 0))
    owners = torch.searchsorted(firsts[1:], numbers[:most], right=True, out_int32=True)
    partials = torch.empty((most, width), dtype=torch.float32, device=rows.device)
    out = torch.empty((count, width), dtype=rows.dtype, device=rows.device)
    for jobs, of_chunks in ((most, True), (count, False)):
        _sum_kernel[(jobs * triton.cdiv(width, blocks["COLUMNS"]),)](
            rows, order, starts, firsts, owners, partials, out, count, width, rows.stride(0), positions // 2,
            draw.seed, draw.row, draw.column,
            CHUNKS=of_chunks, THRESHOLD=draw.threshold, SCALE=draw.scale, **blocks,
        )  # fmt: skip
    return out


@triton.jit
def _sum_rows(
    values: tl.tensor,
    order: tl.tensor,
    start: tl.tensor,
    end: tl.tensor,
    columns: tl.tensor,
    width: tl.tensor,
    stride: tl.tensor,
    positions: tl.tensor,
    seed: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    LISTED: tl.constexpr,  # noqa: N803
    THRESHOLD: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """The sum of the rows order[start:end] of values, or of its rows [start:end], where kept: float32 [COLUMNS]."""
    total = tl.zeros([COLUMNS], tl.float32)
    for begin in range(start, end, ROWS):
        index = begin + tl.arange(0, ROWS)
        here = index < end
        number = tl.load(order + index, mask=here, other=0) if LISTED else index.to(tl.int64)
        inside = here[:, None] & (columns < width)[None, :]
        value = tl.load(values + number[:, None] * stride + columns[None, :], mask=inside, other=0.0).to(tl.float32)
        if THRESHOLD > 0:
            second = (number >= positions).to(tl.int32)  # the second sequence
            token = 2 * (row + number.to(tl.int32) - second * positions) + second
            value = tl.where(keep(seed, column, token, 0, 0, THRESHOLD, ROWS, COLUMNS), value, 0.0)
        total += tl.sum(value, 0)
    return total


@triton.jit(do_not_specialize=["seed", "row", "column"])
def _sum_kernel(
    values: tl.tensor,
    order: tl.tensor,
    starts: tl.tensor,
    firsts: tl.tensor,
    owners: tl.tensor,
    partials: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    width: tl.tensor,
    stride: tl.tensor,
    positions: tl.tensor,
    seed: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    CHUNKS: tl.constexpr,  # noqa: N803
    THRESHOLD: tl.constexpr,  # noqa: N803
    SCALE: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
    CHUNK: tl.constexpr,  # noqa: N803
) -> None:
    """A program COLUMNS features of one chunk (CHUNKS; some numbers have none), or of one id."""
    across = tl.cdiv(width, COLUMNS)
    first, number = tl.program_id(0) % across * COLUMNS, tl.program_id(0) // across
    columns = first + tl.arange(0, COLUMNS)
    column += first
    if CHUNKS:
        owner = tl.load(owners + number)
        if owner < count:
            start = tl.load(starts + owner) + (number - tl.load(firsts + owner)) * CHUNK
            end = tl.minimum(start + CHUNK, tl.load(starts + owner + 1))
            total = SCALE * _sum_rows(
                values,
                order,
                start,
                end,
                columns,
                width,
                stride,
                positions,
                seed,
                row,
                column,
                True,
                THRESHOLD,
                ROWS,
                COLUMNS,
            )
            tl.store(partials + number.to(tl.int64) * width + columns, total, mask=columns < width)
    else:
        start, end = tl.load(firsts + number), tl.load(firsts + number + 1)
        if start < end:
            total = _sum_rows(
                partials,
                order,
                start,
                end,
                columns,
                width,
                width,
                positions,
                seed,
                row,
                column,
                False,
                0,
                ROWS,
                COLUMNS,
            )
        else:
            start, end = tl.load(starts + number), tl.load(starts + number + 1)
            total = SCALE * _sum_rows(
                values,
                order,
                start,
                end,
                columns,
                width,
                stride,
                positions,
                seed,
                row,
                column,
                True,
                THRESHOLD,
                ROWS,
                COLUMNS,
            )
        tl.store(out + number.to(tl.int64) * width + columns, total, mask=columns < width)
