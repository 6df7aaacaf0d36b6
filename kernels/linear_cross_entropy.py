"""Output projection and cross entropy in one operation that never holds all logits.

The logits of 4,096 positions over 5,000 characters are 20 million numbers, several times over with their
gradient. Here a few hundred positions at a time are projected, scored, and turned into their gradients at once,
while they lie in the cache; the backward pass only scales what the forward pass has found.

The classes may be divided over several ranks (section 3 of Shoeybi et al. 2019, arXiv 1909.08053): then a rank scores
its own classes only, and for each position the ranks tell each other four or five numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

POSITIONS_AT_ONCE = 512


@dataclass(frozen=True)
class ClassShard:
    """Which classes the rows of a table are, where several ranks hold the table together, each a run of classes."""

    start: int
    """The class of the table's first row. It rises with the rank."""
    classes: int
    """Of all ranks."""
    gather: Callable[[Tensor], Tensor]
    """Stacks the tensors of all ranks, equal in shape, in a new first dimension, by rank; every rank has to call it."""


class CrossEntropy(NamedTuple):
    """`loss`: scalar float32, differentiable. `correct`: bool [positions], whether the best logit is the target."""

    loss: Tensor
    correct: Tensor


def linear_cross_entropy_reference(
    hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0
) -> CrossEntropy:
    """The same as `linear_cross_entropy`, term by term as the definition reads, at the precision of its input."""
    logits = hidden @ table.T
    log_probabilities = logits.log_softmax(dim=-1)
    likelihood = log_probabilities.gather(1, targets[:, None]).squeeze(1)
    losses = -(1.0 - smoothing) * likelihood - smoothing * log_probabilities.mean(dim=-1)
    return CrossEntropy((losses * weights).sum(), logits.argmax(dim=-1) == targets)


def linear_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    shard: ClassShard | None = None,
) -> CrossEntropy:
    """sum_i weights[i] * H(target distribution of i, softmax(table @ hidden[i])).

    The target distribution gives 1 - smoothing to the target and spreads smoothing evenly over all classes
    (Szegedy et al. 2016, section 7). Probabilities are computed in float32, or in float64 for float64 input.

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
    if not torch.is_grad_enabled():
        # inside the function autograd is off either way, and what it knows of its inputs does not tell
        hidden, table = hidden.detach(), table.detach()
    loss, correct = _LinearCrossEntropy.apply(hidden, table, targets, weights, smoothing, shard)
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
    ) -> tuple[Tensor, Tensor]:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        loss = torch.zeros((), dtype=wide, device=hidden.device)
        correct = torch.empty(len(targets), dtype=torch.bool, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if needs_gradient else None
        table_gradient = torch.zeros_like(table, dtype=wide) if needs_gradient else None
        rows = len(table)
        classes = rows if shard is None else shard.classes
        aims = targets[:, None]
        pulls = torch.full_like(aims, 1.0 - smoothing, dtype=wide)
        if shard is not None:
            # a target of another rank becomes some row of this one, with no pull on it
            aims = aims - shard.start
            pulls *= (aims >= 0) & (aims < rows)
            aims = aims.clamp(0, rows - 1)
        for start in range(0, len(targets), POSITIONS_AT_ONCE):
            part = slice(start, start + POSITIONS_AT_ONCE)
            aim, pull = aims[part], pulls[part]
            weight = weights[part].to(wide)
            logits = hidden[part] @ table.T
            highest, best = logits.max(dim=-1, keepdim=True)
            hit = best == aim
            probabilities = logits.softmax(dim=-1, dtype=wide)
            # the best class has at least the mean probability, so this logarithm is exact where others underflow
            normaliser = highest.to(wide) - probabilities.gather(1, best).log()
            terms = [pull * logits.gather(1, aim).to(wide)]
            if smoothing > 0.0:
                terms.append(smoothing * (rows / classes) * logits.mean(dim=-1, keepdim=True, dtype=wide))
            if shard is not None:
                own = normaliser
                hit, normaliser, *terms = _combine((highest, hit & (pull > 0.0), own, *terms), shard)
                if needs_gradient:
                    probabilities *= (own - normaliser).exp()
            correct[part] = hit.squeeze(1)
            losses = normaliser
            for term in terms:
                losses = losses - term
            loss += losses.squeeze(1) @ weight
            if hidden_gradient is None or table_gradient is None:
                continue
            # d loss / d logits = weight * (softmax - target distribution), written over the probabilities
            gradient = probabilities
            if smoothing > 0.0:
                gradient -= smoothing / classes
            gradient.scatter_add_(1, aim, -pull)
            gradient = gradient.mul_(weight[:, None]).to(hidden.dtype)
            torch.mm(gradient, table, out=hidden_gradient[part])
            table_gradient += gradient.T @ hidden[part]
        if hidden_gradient is not None and table_gradient is not None:
            ctx.save_for_backward(hidden_gradient, table_gradient.to(table.dtype))
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor, _correct: None) -> tuple[Tensor | None, ...]:
        hidden_gradient, table_gradient = ctx.saved_tensors
        scale = loss_gradient.to(hidden_gradient.dtype)
        return hidden_gradient * scale, table_gradient * scale, None, None, None, None


def _combine(scores: Sequence[Tensor], shard: ClassShard) -> list[Tensor]:
    """From the classes of each rank to all classes, alike on every rank.

    Args:
        scores: each [positions, 1]: the highest logit, whether its class is the target, the logarithm of the sum of
            exp(logit), and what else is to be summed over the classes.
        shard: who has which classes.

    Returns:
        Of all classes, in float32 or float64: whether the best one is the target (bool), the logarithm, the sums.
    """
    wide = scores[-1].dtype
    gathered = shard.gather(torch.stack([score.to(wide) for score in scores]))
    highest, hit, normaliser, *terms = gathered.unbind(1)
    # of equal logits the first, as `max` has it within a rank
    winner = highest.argmax(dim=0, keepdim=True)
    hit = hit.gather(0, winner).squeeze(0) > 0
    return [hit, normaliser.logsumexp(dim=0), *(term.sum(dim=0) for term in terms)]
