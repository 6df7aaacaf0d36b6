"""Cross entropy in Triton: a program scores the logits of a position and writes their gradient over them.

A row of logits that fits a block stays in registers in between; a longer one is swept twice, first with an online
softmax (Milakov & Gimelshein 2018, arXiv 1805.02867). What a row has beyond its last multiple of 16 classes is a block
of its own, so that all other loads and stores can be of 16 bytes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hzlm.kernels.checks import check_float, check_like
from hzlm.kernels.cross_entropy import ClassShard, CrossEntropy, combine
from hzlm.kernels.gpu.blocks import choose_blocks

TAIL = tl.constexpr(16)
"""Classes of the last block."""


@triton.jit
def _score(
    row: tl.tensor,
    columns: tl.tensor,
    end: tl.tensor,
    SPREAD: tl.constexpr,  # noqa: N803
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Of the logits in these columns: exp(logit - highest), the highest, its first column, the sum of the former, and
    the sum of the logits where SPREAD asks for it."""
    inside = columns < end
    logits = tl.load(row + columns, mask=inside, other=float("-inf")).to(tl.float32)
    highest = tl.max(logits, 0)
    best = tl.min(tl.where(logits == highest, columns, end), 0)
    powers = tl.exp(logits - highest)
    summed = 0.0
    if SPREAD > 0.0:
        summed = tl.sum(tl.where(inside, logits, 0.0), 0)
    return powers, highest, best, tl.sum(powers, 0), summed


@triton.jit
def _join(
    highest: tl.tensor,
    best: tl.tensor,
    total: tl.tensor,
    summed: tl.tensor,
    other_highest: tl.tensor,
    other_best: tl.tensor,
    other_total: tl.tensor,
    other_summed: tl.tensor,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """The scores of two blocks together; the other one lies behind."""
    risen = tl.maximum(highest, other_highest)
    best = tl.where(other_highest > highest, other_best, best)
    total = total * tl.exp(highest - risen) + other_total * tl.exp(other_highest - risen)
    return risen, best, total, summed + other_summed


@triton.jit
def _read(
    row: tl.tensor,
    classes: tl.tensor,
    full: tl.tensor,
    SPREAD: tl.constexpr,  # noqa: N803
    ONE: tl.constexpr,  # noqa: N803
    REST: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """The powers of the first block and what they are powers over; then the scores of the whole row."""
    columns = tl.arange(0, BLOCK)
    powers, pivot, best, total, summed = _score(row, columns, full, SPREAD)
    highest = pivot
    if not ONE:
        for start in range(BLOCK, full, BLOCK):
            _, top, place, more, also = _score(row, start + columns, full, SPREAD)
            highest, best, total, summed = _join(highest, best, total, summed, top, place, more, also)
    if REST:
        _, top, place, more, also = _score(row, full + tl.arange(0, TAIL), classes, SPREAD)
        highest, best, total, summed = _join(highest, best, total, summed, top, place, more, also)
    return powers, pivot, highest, best, total, summed


@triton.jit
def _write(
    row: tl.tensor,
    columns: tl.tensor,
    end: tl.tensor,
    probabilities: tl.tensor,
    weight: tl.tensor,
    SPREAD: tl.constexpr,  # noqa: N803
) -> None:
    """weight * (softmax - target distribution) in these columns, as if none of them were the target."""
    tl.store(row + columns, (weight * (probabilities - SPREAD)).to(row.dtype.element_ty), mask=columns < end)


@triton.jit
def _overwrite(
    row: tl.tensor,
    columns: tl.tensor,
    end: tl.tensor,
    pivot: tl.tensor,
    share: tl.tensor,
    weight: tl.tensor,
    SPREAD: tl.constexpr,  # noqa: N803
) -> None:
    """`_write`, from the logits that are there; the probabilities are exp(logit - pivot) * share."""
    logits = tl.load(row + columns, mask=columns < end, other=float("-inf")).to(tl.float32)
    _write(row, columns, end, tl.exp(logits - pivot) * share, weight, SPREAD)


@triton.jit
def _differentiate(
    row: tl.tensor,
    held: tl.tensor,
    pivot: tl.tensor,
    share: tl.tensor,
    target: tl.tensor,
    aimed: tl.tensor,
    weight: tl.tensor,
    classes: tl.tensor,
    full: tl.tensor,
    PULL: tl.constexpr,  # noqa: N803
    SPREAD: tl.constexpr,  # noqa: N803
    HELD: tl.constexpr,  # noqa: N803
    REST: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """The gradient over a row of logits; where HELD, `held` are the probabilities of all but the last block."""
    # every warp has read the target's logit and the last block before one of them writes there
    tl.debug_barrier()
    columns = tl.arange(0, BLOCK)
    if HELD:
        _write(row, columns, full, held, weight, SPREAD)
    else:
        for start in range(0, full, BLOCK):
            _overwrite(row, start + columns, full, pivot, share, weight, SPREAD)
    if REST:
        _overwrite(row, full + tl.arange(0, TAIL), classes, pivot, share, weight, SPREAD)
    # the target's own after the others: to compare all columns with it would take as many registers as they do
    tl.debug_barrier()
    gradient = weight * (tl.exp(aimed - pivot) * share - SPREAD - PULL)
    tl.store(row + target, gradient.to(row.dtype.element_ty), mask=(target >= 0) & (target < classes))


@triton.jit
def _score_all(
    logits: tl.tensor,
    targets: tl.tensor,
    weights: tl.tensor,
    losses: tl.tensor,
    correct: tl.tensor,
    pitch: tl.tensor,
    classes: tl.tensor,
    full: tl.tensor,
    PULL: tl.constexpr,  # noqa: N803
    SPREAD: tl.constexpr,  # noqa: N803
    ONE: tl.constexpr,  # noqa: N803
    REST: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
    GRADIENT: tl.constexpr,  # noqa: N803
) -> None:
    """A position's loss, times its weight, and gradient, where all classes are here."""
    position = tl.program_id(0)
    row = logits + position.to(tl.int64) * pitch
    target = tl.load(targets + position).to(tl.int32)
    weight = tl.load(weights + position)
    # a target that is no class spoils the loss rather than read what lies beyond the row
    aimed = tl.load(row + target, mask=(target >= 0) & (target < classes), other=float("nan")).to(tl.float32)
    powers, pivot, highest, best, total, summed = _read(row, classes, full, SPREAD, ONE, REST, BLOCK)
    # relative to the highest logit, so that a small loss is exact where logits are large
    loss = tl.log(total) - PULL * (aimed - highest)
    if SPREAD > 0.0:
        loss -= SPREAD * (summed - classes * highest)
    tl.store(losses + position, weight * loss)
    tl.store(correct + position, (best == target).to(tl.int8))
    if GRADIENT:
        share = 1.0 / total
        held = powers * (tl.exp(pivot - highest) * share)
        _differentiate(row, held, highest, share, target, aimed, weight, classes, full, PULL, SPREAD, ONE, REST, BLOCK)


@triton.jit
def _score_own(
    logits: tl.tensor,
    targets: tl.tensor,
    told: tl.tensor,
    pitch: tl.tensor,
    first: tl.tensor,
    classes: tl.tensor,
    full: tl.tensor,
    PULL: tl.constexpr,  # noqa: N803
    SPREAD: tl.constexpr,  # noqa: N803
    ONE: tl.constexpr,  # noqa: N803
    REST: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """What the ranks tell each other about a position: told [4 or 5, positions], as `combine` takes it."""
    position = tl.program_id(0)
    row = logits + position.to(tl.int64) * pitch
    target = (tl.load(targets + position) - first).to(tl.int32)
    aimed = tl.load(row + target, mask=(target >= 0) & (target < classes), other=0.0).to(tl.float32)
    _, _, highest, best, total, summed = _read(row, classes, full, SPREAD, ONE, REST, BLOCK)
    positions = tl.num_programs(0)
    told += position
    tl.store(told, highest)
    tl.store(told + positions, (best == target).to(tl.float32))
    tl.store(told + 2 * positions, highest + tl.log(total))
    tl.store(told + 3 * positions, PULL * aimed)
    if SPREAD > 0.0:
        tl.store(told + 4 * positions, SPREAD * summed)


@triton.jit
def _differentiate_own(
    logits: tl.tensor,
    targets: tl.tensor,
    weights: tl.tensor,
    normalisers: tl.tensor,
    pitch: tl.tensor,
    first: tl.tensor,
    classes: tl.tensor,
    full: tl.tensor,
    PULL: tl.constexpr,  # noqa: N803
    SPREAD: tl.constexpr,  # noqa: N803
    REST: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """The gradient of a position by the classes of this rank, from the normaliser over those of all."""
    position = tl.program_id(0)
    row = logits + position.to(tl.int64) * pitch
    target = (tl.load(targets + position) - first).to(tl.int32)
    weight = tl.load(weights + position)
    pivot = tl.load(normalisers + position)
    aimed = tl.load(row + target, mask=(target >= 0) & (target < classes), other=0.0).to(tl.float32)
    _differentiate(row, 0.0, pivot, 1.0, target, aimed, weight, classes, full, PULL, SPREAD, False, REST, BLOCK)


@torch.no_grad()
def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    shard: ClassShard | None = None,
    gradient: bool = True,
) -> CrossEntropy:
    """As `hzlm.kernels.cross_entropy.cross_entropy`; quickest where rows lie a multiple of 16 numbers apart.

    Args:
        logits: fp16, bf16 or fp32 [positions, classes of this rank]; a row has no gaps within.
        targets: int64 [positions], classes: others make the loss NaN, where no shard is given.
        weights: float32 [positions].
        smoothing: in [0, 1).
        shard: which classes the logits are of.
        gradient: whether it is wanted.

    Raises:
        ValueError: an argument does not fit; it is named.
    """
    check_float("logits", logits, 2)
    positions, rows = logits.shape
    if rows == 0 or logits.stride(1) != 1 or (positions > 1 and logits.stride(0) < rows):
        raise ValueError(
            f"logits has shape {list(logits.shape)} and strides {list(logits.stride())}; it must have classes, "
            "one beside the other, and rows that do not overlap"
        )
    check_labels(logits, targets, weights, smoothing)
    targets, weights = targets.contiguous(), weights.contiguous()
    full = rows - rows % TAIL.value if rows > TAIL.value else rows
    blocks = choose_blocks("cross_entropy", full)
    constants = {
        "PULL": 1.0 - smoothing,
        "SPREAD": smoothing / (rows if shard is None else shard.classes),
        "REST": full < rows,
    } | blocks
    grid, sizes, one = (positions,), (rows, full), full <= blocks["BLOCK"]
    if shard is None:
        losses = torch.empty_like(weights)
        correct = torch.empty_like(targets, dtype=torch.int8)
        _score_all[grid](
            logits, targets, weights, losses, correct, logits.stride(0), *sizes, ONE=one, GRADIENT=gradient, **constants
        )
        return CrossEntropy(losses.sum(), correct.view(torch.bool))
    told = weights.new_empty(5 if smoothing > 0.0 else 4, positions, 1)
    _score_own[grid](logits, targets, told, logits.stride(0), shard.start, *sizes, ONE=one, **constants)
    hit, losses, *terms = combine(told, shard)
    if gradient:
        _differentiate_own[grid](logits, targets, weights, losses, logits.stride(0), shard.start, *sizes, **constants)
    for term in terms:
        losses = losses - term
    return CrossEntropy(losses.squeeze(1) @ weights, hit.squeeze(1))


def check_labels(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float) -> None:
    """What goes with logits, or with the hidden states that they come from, fits them."""
    check_like("targets", targets, logits.shape[:1], logits, torch.int64)
    check_like("weights", weights, logits.shape[:1], logits, torch.float32)
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing is {smoothing}; it must be at least 0 and less than 1")
