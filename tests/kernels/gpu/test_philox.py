"""The masks that kernels draw against those of `hzlm.kernels.dropout`."""

import pytest
import torch
import triton
import triton.language as tl
from interpreter import watch
from torch import Tensor

from hzlm.kernels.dropout import Draw, kept_features, kept_weights
from hzlm.kernels.gpu.philox import keep


@triton.jit(do_not_specialize=["seed", "row", "column"])
def _draw(
    out: tl.tensor,
    seed: tl.tensor,
    column: tl.tensor,
    row: tl.tensor,
    third: tl.tensor,
    fourth: tl.tensor,
    THRESHOLD: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
) -> None:
    """One block of a mask."""
    rows = tl.arange(0, ROWS)
    kept = keep(seed, column, row + rows, third, fourth, THRESHOLD, ROWS, COLUMNS)
    tl.store(out + rows[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :], kept.to(tl.int8))


def draw_block(draw: Draw, row: int, column: int, third: int, fourth: int) -> Tensor:
    """16 x 32 elements."""
    out = torch.empty(16, 32, dtype=torch.int8)
    with watch():
        _draw[(1,)](out, draw.seed, column, row, third, fourth, THRESHOLD=draw.threshold, ROWS=16, COLUMNS=32)
    return out.bool()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("seed", [0, 2**31, 2**32 + 5, 2**63 - 1])
def test_kernels_draw_the_mask_of_features(seed: int, rate: float) -> None:
    draw = Draw(rate, seed, row=70_001, column=1024)
    assert torch.equal(draw_block(draw, draw.row, draw.column, 0, 0), kept_features(draw, 16, 32))


@pytest.mark.parametrize("seed", [3, 2**62 + 7])
def test_kernels_draw_the_mask_of_attention_weights(seed: int) -> None:
    draw = Draw(0.3, seed, row=40, column=6)
    whole = kept_weights(draw, 3, 2, 64)
    for row, head, query, key in [(0, 0, 0, 0), (2, 1, 48, 32), (1, 0, 7, 4)]:
        block = draw_block(draw, query, key, draw.column + head, draw.row + row)
        assert torch.equal(block, whole[row, head, query : query + 16, key : key + 32])
