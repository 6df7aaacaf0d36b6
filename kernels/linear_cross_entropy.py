"""Output projection and cross entropy in one operation that never holds all logits.

The logits of 4,096 positions over 5,000 characters are 20 million numbers, several times over with their
gradient. Here a few hundred positions at a time are projected, scored, and turned into their gradients at once,
while they lie in the cache; the backward pass only scales what the forward pass has found.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

POSITIONS_AT_ONCE = 512


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
    hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0
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
    """
    if not torch.is_grad_enabled():
        # inside the function autograd is off either way, and what it knows of its inputs does not tell
        hidden, table = hidden.detach(), table.detach()
    loss, correct = _LinearCrossEntropy.apply(hidden, table, targets, weights, smoothing)
    return CrossEntropy(loss, correct)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        loss = torch.zeros((), dtype=wide, device=hidden.device)
        correct = torch.empty(len(targets), dtype=torch.bool, device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if needs_gradient else None
        table_gradient = torch.zeros_like(table, dtype=wide) if needs_gradient else None
        classes = table.shape[0]
        for start in range(0, len(targets), POSITIONS_AT_ONCE):
            part = slice(start, start + POSITIONS_AT_ONCE)
            target = targets[part, None]
            weight = weights[part].to(wide)
            logits = hidden[part] @ table.T
            highest, best = logits.max(dim=-1, keepdim=True)
            correct[part] = (best == target).squeeze(1)
            probabilities = logits.softmax(dim=-1, dtype=wide)
            # the best class has at least the mean probability, so this logarithm is exact where others underflow
            normaliser = (highest.to(wide) - probabilities.gather(1, best).log()).squeeze(1)
            losses = normaliser - (1.0 - smoothing) * logits.gather(1, target).squeeze(1).to(wide)
            if smoothing > 0.0:
                losses -= smoothing * logits.mean(dim=-1, dtype=wide)
            loss += losses @ weight
            if hidden_gradient is None or table_gradient is None:
                continue
            # d loss / d logits = weight * (softmax - target distribution), written over the probabilities
            gradient = probabilities
            if smoothing > 0.0:
                gradient -= smoothing / classes
            gradient.scatter_add_(1, target, torch.full_like(target, smoothing - 1.0, dtype=wide))
            gradient = gradient.mul_(weight[:, None]).to(hidden.dtype)
            torch.mm(gradient, table, out=hidden_gradient[part])
            table_gradient += gradient.T @ hidden[part]
        if hidden_gradient is not None and table_gradient is not None:
            ctx.save_for_backward(hidden_gradient, table_gradient.to(table.dtype))
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor, _correct: None) -> tuple[Tensor, Tensor, None, None, None]:
        hidden_gradient, table_gradient = ctx.saved_tensors
        scale = loss_gradient.to(hidden_gradient.dtype)
        return hidden_gradient * scale, table_gradient * scale, None, None, None
