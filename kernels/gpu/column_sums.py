"""The second stage of the gradients of biases and LayerNorm weights: the sums of what the first stage has left."""

import triton
import triton.language as tl
from torch import Tensor

from hzlm.kernels.gpu.blocks import choose_blocks


def sum_columns(partials: Tensor, sums: Tensor) -> None:
    """Writes the sum over the parts of partials [vectors, parts, W], float32, to sums [vectors, W], of any dtype."""
    vectors, parts, width = partials.shape
    blocks = choose_blocks("column_sums", width)
    _sum[(triton.cdiv(width, blocks["COLUMNS"]), vectors)](partials, sums, parts, width, **blocks)


@triton.jit
def _sum(
    partials: tl.tensor,
    sums: tl.tensor,
    parts: tl.tensor,
    width: tl.tensor,
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
) -> None:
    """COLUMNS elements of one vector; always added in the same order."""
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < width
    partials += tl.program_id(1) * parts * width
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, parts, ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < parts)[:, None] & inside[None, :]
        total += tl.load(partials + rows[:, None] * width + columns[None, :], mask=mask, other=0.0)
    tl.store(sums + tl.program_id(1) * width + columns, tl.sum(total, 0), mask=inside)
