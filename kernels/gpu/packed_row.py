"""What the attention kernels do with the blocks of one packed row."""

import triton
import triton.language as tl


@triton.jit
def find_reach(
    segments: tl.tensor,
    length: tl.tensor,
    first: tl.tensor,
    BLOCK: tl.constexpr,  # noqa: N803
    LENGTH: tl.constexpr,  # noqa: N803
) -> tuple[tl.tensor, tl.tensor]:
    """From the start of the segment of position `first` to the end of that of the block's last position.

    An end that lies in padding is the block's own. The start is rounded down for aligned loads.
    """
    place = tl.arange(0, LENGTH)
    number = tl.load(segments + place, mask=place < length, other=0)
    last = tl.minimum(first + BLOCK, length) - 1
    at_first, at_last = tl.load(segments + first), tl.load(segments + last)
    start = tl.min(tl.where((number == at_first) & (number != 0), place, first))
    end = tl.max(tl.where((number == at_last) & (number != 0), place, last)) + 1
    return tl.minimum(start, first) // 16 * 16, end


@triton.jit
def load_head(
    base: tl.tensor,
    place: tl.tensor,
    stride: tl.tensor,
    length: tl.tensor,
    HEAD: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
    UPCAST: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """[places, WIDTH] of a head that begins at `base`; zeros outside the row and the head."""
    feature = tl.arange(0, WIDTH)
    inside = (place < length)[:, None] & (feature < HEAD)[None, :]
    block = tl.load(base + place[:, None] * stride + feature[None, :], mask=inside, other=0.0)
    return block.to(tl.float32) if UPCAST else block


@triton.jit
def store_head(
    base: tl.tensor,
    place: tl.tensor,
    stride: tl.tensor,
    length: tl.tensor,
    block: tl.tensor,
    HEAD: tl.constexpr,  # noqa: N803
    WIDTH: tl.constexpr,  # noqa: N803
) -> None:
    """The reverse of `load_head`, rounded to the dtype of the tensor."""
    feature = tl.arange(0, WIDTH)
    inside = (place < length)[:, None] & (feature < HEAD)[None, :]
    tl.store(base + place[:, None] * stride + feature[None, :], block.to(base.dtype.element_ty), mask=inside)


@triton.jit
def round_like(x: tl.tensor, like: tl.tensor, UPCAST: tl.constexpr) -> tl.tensor:  # noqa: N803
    """As operand of the next product, of the dtype that `like` points to."""
    rounded = x.to(like.dtype.element_ty)
    return rounded.to(tl.float32) if UPCAST else rounded


@triton.jit
def find_visible(
    query: tl.tensor,
    key: tl.tensor,
    query_segment: tl.tensor,
    key_segment: tl.tensor,
    CAUSAL: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """Which key each query sees: bool [queries, keys]. Places outside the row have segment 0."""
    visible = (query_segment[:, None] == key_segment[None, :]) & (query_segment != 0)[:, None]
    if CAUSAL:
        visible = visible & (key[None, :] <= query[:, None])
    return visible
