"""Cross entropy of logits that are there, and its gradient, which takes their place.

The classes may be divided over several ranks (section 3 of Shoeybi et al. 2019, arXiv 1909.08053): then a rank scores
its own classes only, and for each position the ranks tell each other four or five numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


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
    """`loss`: scalar float32, or float64 for float64 input. `correct`: bool [positions], whether the best logit is the
    target's."""

    loss: Tensor
    correct: Tensor


def cross_entropy_reference(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0) -> CrossEntropy:
    """The same as `cross_entropy`, term by term as the definition reads, at the precision of its input; autograd gives
    the gradient."""
    log_probabilities = logits.log_softmax(dim=-1)
    likelihood = log_probabilities.gather(1, targets[:, None]).squeeze(1)
    losses = -(1.0 - smoothing) * likelihood - smoothing * log_probabilities.mean(dim=-1)
    return CrossEntropy((losses * weights).sum(), logits.argmax(dim=-1) == targets)


@torch.no_grad()
def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    shard: ClassShard | None = None,
    gradient: bool = True,
) -> CrossEntropy:
    """sum_i weights[i] * H(target distribution of i, softmax(logits[i])); the logits become its gradient.

    The target distribution gives 1 - smoothing to the target and spreads smoothing evenly over all classes
    (Szegedy et al. 2016, section 7). Probabilities are computed in float32, or in float64 for float64 input. Autograd
    sees none of it.

    Args:
        logits: [positions, classes of this rank], one class at least; rows may have gaps between them. Overwritten
            by the gradient of the loss, in their dtype, where `gradient` is set.
        targets: int64 [positions], class numbers.
        weights: float [positions].
        smoothing: in [0, 1).
        shard: which classes the logits are of; all where it is None. Every rank gives the same targets, weights and
            smoothing and gets the same loss and correct, bit for bit.
        gradient: whether it is wanted.
    """
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    rows = logits.shape[1]
    classes = rows if shard is None else shard.classes
    weight = weights.to(wide)
    aim = targets[:, None]
    pull = torch.full_like(aim, 1.0 - smoothing, dtype=wide)
    if shard is not None:
        # a target of another rank becomes some row of this one, with no pull on it
        aim = aim - shard.start
        pull *= (aim >= 0) & (aim < rows)
        aim = aim.clamp(0, rows - 1)
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
        told = [score.to(wide) for score in (highest, hit & (pull > 0.0), own, *terms)]
        hit, normaliser, *terms = combine(torch.stack(told), shard)
        if gradient:
            probabilities *= (own - normaliser).exp()
    losses = normaliser
    for term in terms:
        losses = losses - term
    if gradient:
        # d loss / d logits = weight * (softmax - target distribution)
        if smoothing > 0.0:
            probabilities -= smoothing / classes
        probabilities.scatter_add_(1, aim, -pull)
        torch.mul(probabilities, weight[:, None], out=logits)
    return CrossEntropy(losses.squeeze(1) @ weight, hit.squeeze(1))


def combine(told: Tensor, shard: ClassShard) -> list[Tensor]:
    """From the classes of each rank to all classes, alike on every rank.

    Args:
        told: [4 or 5, positions, 1] float32 or float64: the highest logit, whether its class is the target, the
            logarithm of the sum of exp(logit), and what else is to be summed over the classes.
        shard: who has which classes.

    Returns:
        Of all classes, each [positions, 1]: whether the best one is the target (bool), the logarithm, the sums.
    """
    highest, hit, normaliser, *terms = shard.gather(told).unbind(1)
    # of equal logits the first, as `max` has it within a rank
    winner = highest.argmax(dim=0, keepdim=True)
    hit = hit.gather(0, winner).squeeze(0) > 0
    return [hit, normaliser.logsumexp(dim=0), *(term.sum(dim=0) for term in terms)]
