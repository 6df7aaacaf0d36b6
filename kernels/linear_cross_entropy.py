"""Output projection and cross entropy in one operation that never holds all logits.

The logits of 4,096 positions over 5,000 characters are 20 million numbers, several times over with their
gradient. Here a few hundred positions at a time are projected, scored, and turned into their gradients at once,
while they lie in the cache; the backward pass only scales what the forward pass has found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hzlm.kernels.cross_entropy import ClassShard, CrossEntropy, cross_entropy, cross_entropy_reference

POSITIONS_AT_ONCE = 512


@dataclass(frozen=True)
class Scoring:
    """How logits are computed and scored."""

    score: Callable[..., CrossEntropy]
    """`cross_entropy` or another of its signature."""
    positions: int
    """That are projected and scored at once."""
    alignment: int
    """The logits of a position start at a multiple of so many numbers; 1: without gaps."""


def linear_cross_entropy_reference(
    hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0
) -> CrossEntropy:
    """The same as `linear_cross_entropy`, term by term as the definition reads, at the precision of its input."""
    return cross_entropy_reference(hidden @ table.T, targets, weights, smoothing)


def linear_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    shard: ClassShard | None = None,
) -> CrossEntropy:
    """The cross entropy of the logits hidden @ table^T, as `hzlm.kernels.cross_entropy` has it; differentiable.

    Args:
        hidden: [positions, hidden size].
        table: [classes, hidden size], same dtype.
        targets: int64 [positions], class numbers.
        weights: float [positions], no gradient flows to them.
        smoothing: in [0, 1).
        shard: which classes `table` holds, one at least; all where it is None. Every rank gives the same hidden,
            targets, weights and smoothing and gets the same loss and correct, bit for bit. The gradient of hidden is
            what this rank's classes contribute to it: the caller sums it over the ranks.
    """
    return score_in_chunks(
        hidden, table, targets, weights, smoothing, shard, Scoring(cross_entropy, POSITIONS_AT_ONCE, 1)
    )


def score_in_chunks(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float,
    shard: ClassShard | None,
    scoring: Scoring,
) -> CrossEntropy:
    """`linear_cross_entropy` on any device, by its way of scoring."""
    if not torch.is_grad_enabled():
        # inside the function autograd is off either way, and what it knows of its inputs does not tell
        hidden, table = hidden.detach(), table.detach()
    loss, correct = _LinearCrossEntropy.apply(hidden, table, targets, weights, smoothing, shard, scoring)
    return CrossEntropy(loss, correct)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        targets: Tensor,
        weights: Tensor,
        smoothing: float,
        shard: ClassShard | None,
        scoring: Scoring,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        loss = torch.zeros((), dtype=wide, device=hidden.device)
        correct = torch.empty(len(targets), dtype=torch.bool, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if needs_gradient else None
        table_gradient = torch.zeros_like(table, dtype=wide) if needs_gradient else None
        # fp16 has no room for weights of one over some thousand targets: gradients are kept in units of the largest one
        unit = weights.to(wide).abs().amax() if len(weights) > 0 else loss + 1.0
        weights = (weights / unit.clamp_min(torch.finfo(wide).tiny)).to(weights.dtype)
        rows = len(table)
        most = min(scoring.positions, len(targets))
        buffer = hidden.new_empty(most, -(-rows // scoring.alignment) * scoring.alignment)[:, :rows]
        for start in range(0, len(targets), scoring.positions):
            part = slice(start, start + scoring.positions)
            logits = buffer[: len(targets) - start]
            torch.mm(hidden[part], table.T, out=logits)
            found = scoring.score(logits, targets[part], weights[part], smoothing, shard, needs_gradient)
            loss += found.loss
            correct[part] = found.correct
            if hidden_gradient is None or table_gradient is None:
                continue
            torch.mm(logits, table, out=hidden_gradient[part])
            table_gradient += logits.T @ hidden[part]
        if hidden_gradient is not None and table_gradient is not None:
            ctx.save_for_backward(hidden_gradient, table_gradient.to(table.dtype), unit)
        ctx.mark_non_differentiable(correct)
        return loss * unit, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor, _correct: None) -> tuple[Tensor | None, ...]:
        hidden_gradient, table_gradient, unit = ctx.saved_tensors
        scale = (loss_gradient * unit).to(hidden_gradient.dtype)
        return hidden_gradient * scale, table_gradient * scale, None, None, None, None, None
