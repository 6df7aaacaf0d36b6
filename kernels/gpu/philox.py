"""The masks of `hzlm.kernels.dropout` inside kernels."""

import triton
import triton.language as tl


@triton.jit
def keep(
    seed: tl.tensor,
    column: tl.tensor,
    second: tl.tensor,
    third: tl.tensor,
    fourth: tl.tensor,
    THRESHOLD: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """Which elements of a block are kept: bool [ROWS, COLUMNS]. One draw of Philox serves four elements of a row.

    Args:
        seed: 64 bits.
        column: global number of the first column; a multiple of 4.
        second: [ROWS], the second word of the counter by row of the block: the token, or the query.
        third, fourth: scalars: the head and the row of attention, 0 and 0 elsewhere.
        THRESHOLD: of `Draw`; not 0.
    """
    group = (column // 4 + tl.arange(0, COLUMNS // 4)).to(tl.uint32)
    none = tl.zeros([ROWS, COLUMNS // 4], tl.uint32)
    a, b, c, d = tl.philox(
        seed,
        none + group[None, :],
        none + second.to(tl.uint32)[:, None],
        none + third,
        none + fourth,
        n_rounds=7,
    )
    words = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), [ROWS, COLUMNS])
    return words >= THRESHOLD
