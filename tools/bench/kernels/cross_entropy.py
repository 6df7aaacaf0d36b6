"""What scoring logits costs, where all classes are here and where other ranks have some."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.config import ModelConfig
from hzlm.kernels import cross_entropy as torch_path
from hzlm.kernels.cross_entropy import ClassShard, CrossEntropy
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.cross_entropy import TAIL, cross_entropy
from hzlm.kernels.gpu.linear_cross_entropy import ALIGNMENT, POSITIONS_AT_ONCE
from hzlm.tools.bench.kernels.case import Case, Cost
from hzlm.tools.bench.kernels.peers import liger_cross_entropy

LONG, FLOAT, BOOL = 8, 4, 1
"""Bytes of a target, of a weight or a loss, of whether the best logit is the target's."""
SMOOTHING = 0.1


def least_moved(classes: int, size: int, gradient: bool) -> int:
    """Bytes of one position that have to be moved at least."""
    return classes * size * (2 if gradient else 1) + LONG + FLOAT + FLOAT + BOOL


def cost(positions: int, classes: int, size: int, gradient: bool) -> Cost:
    """Where all classes are here. The target's logit is loaded once more by itself, and its gradient stored.

    Args:
        positions: rows of logits.
        classes: of each.
        size: bytes of a logit.
        gradient: whether it is written.
    """
    rest = classes % TAIL.value if classes > TAIL.value else 0
    full = classes - rest
    # for the gradient the last block is read again, and a row of several blocks as a whole
    again = rest if full <= choose_blocks("cross_entropy", full)["BLOCK"] else classes
    read = (classes + 1 + (again if gradient else 0)) * size + LONG + FLOAT
    written = ((classes + 1) * size if gradient else 0) + FLOAT + BOOL
    return Cost(positions * read, positions * written, positions * least_moved(classes, size, gradient))


def shard_cost(positions: int, classes: int, size: int, numbers: int) -> Cost:
    """With the gradient, where this rank has some of the classes, all targets among them.

    Args:
        positions: rows of logits.
        classes: of this rank.
        size: bytes of a logit.
        numbers: that the ranks tell each other of a position.
    """
    read = 2 * ((classes + 1) * size + LONG) + 2 * FLOAT
    written = numbers * FLOAT + (classes + 1) * size
    return Cost(positions * read, positions * written, positions * least_moved(classes, size, True))


def plain_moved(positions: int, classes: int, size: int, smoothing: float, gradient: bool) -> int:
    """Bytes that torch's sequence moves.

    Forward: the log softmax reads and writes, argmax reads, and smoothing sums the log probabilities. Backward: their
    gradient is filled with zeros (to which smoothing adds its own) and read with them, and that of the logits written.
    """
    forward, backward = (4, 6) if smoothing > 0.0 else (3, 4)
    return positions * classes * size * (forward + (backward if gradient else 0))


def shard_plain_moved(positions: int, classes: int, size: int, smoothing: float) -> int:
    """Bytes that the torch path moves on a GPU: reads of the highest logit, the softmax (float32) and the sum of the
    logits; the probabilities corrected, smoothed, and turned into the gradient, each in and out."""
    passes = 2 * size + FLOAT + 2 * FLOAT + FLOAT + size
    return positions * classes * (passes + (size + 2 * FLOAT if smoothing > 0.0 else 0))


def plain(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float) -> CrossEntropy:
    """The sequence of torch operations, which autograd can follow."""
    losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    return CrossEntropy(losses.float() @ weights, logits.argmax(dim=-1) == targets)


def cases(model: ModelConfig, targets: int, tokens: int) -> list[Case]:
    """One chunk of the projection: without the gradient, with it, and with it as one of two ranks."""
    positions = min(tokens, POSITIONS_AT_ONCE)
    make = partial(_make, positions, targets)
    shard = ClassShard(0, 2 * targets, lambda x: torch.stack([x, x]))
    found = []
    for smoothing in (0.0, SMOOTHING):
        shape = f"{positions} x {targets}, smoothing {smoothing}"
        score = partial(cross_entropy, smoothing=smoothing)
        sequence = partial(plain, smoothing=smoothing)
        found += [
            Case(
                "cross_entropy", shape, "forward", make, partial(score, gradient=False), sequence,
                cost(positions, targets, 2, False), plain_moved(positions, targets, 2, smoothing, False),
            ),
            Case(
                "cross_entropy", shape, "both", make, score, partial(_differentiate, smoothing),
                cost(positions, targets, 2, True), plain_moved(positions, targets, 2, smoothing, True),
                {"liger": partial(_differentiate_liger, smoothing)},
            ),
            Case(
                "cross_entropy", f"{shape}, a rank of two", "both", make, partial(score, shard=shard),
                partial(torch_path.cross_entropy, smoothing=smoothing, shard=shard),
                shard_cost(positions, targets, 2, 5 if smoothing > 0.0 else 4),
                shard_plain_moved(positions, targets, 2, smoothing),
            ),
        ]  # fmt: skip
    return found


def _make(positions: int, classes: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Logits with the gaps that the projection leaves, targets and weights."""
    buffer = torch.randn(positions, -(-classes // ALIGNMENT) * ALIGNMENT, dtype=torch.bfloat16, device=device)
    weights = torch.full((positions,), 1.0 / positions, device=device)
    return buffer[:, :classes], torch.randint(classes, (positions,), device=device), weights


def _differentiate(smoothing: float, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(plain(leaf, targets, weights, smoothing).loss, leaf)[0]


def _differentiate_liger(smoothing: float, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(liger_cross_entropy(leaf, targets, smoothing), leaf)[0]
