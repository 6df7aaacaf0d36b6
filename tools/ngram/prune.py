"""Pruning of n-gram models to a stated size."""

import numpy as np
import numpy.typing as npt
import torch

from hzlm.decode.ngram import BYTES_PER_NGRAM, NgramModel
from hzlm.tools.ngram.count import Ngrams
from hzlm.tools.ngram.estimate import Estimate, Floats


def prune_to_size(estimate: Estimate, size: int) -> Estimate:
    """The n-grams that are worth most, as many as fit in `size` bytes; unigrams all stay, even if they do not fit."""
    fitting = max(size // BYTES_PER_NGRAM, estimate.ngrams.bounds[1])
    if fitting >= len(estimate.ngrams.keys):
        return estimate
    worth = prefix_closed(removal_costs(estimate), estimate.ngrams)
    kept = np.zeros(len(worth), bool)
    # stable: at equal worth a prefix, which has the smaller index, comes before what it begins
    kept[np.argsort(-worth, kind="stable")[:fitting]] = True
    return keep(estimate, kept)


def removal_costs(estimate: Estimate) -> Floats:
    """How much worse the model becomes if one n-gram goes (Stolcke 1998, equation 5): relative entropy in nats.

    The probability of the history h is its share of the text, not the product of the model's own probabilities as
    in the paper: Kneser-Ney's lower orders are made for backing off, and wrong as marginals (Chelba et al. 2010).

    Returns:
        float64 [M]; infinite for unigrams.
    """
    ngrams = estimate.ngrams
    longer = slice(ngrams.bounds[1], None)
    context = ngrams.context[longer]
    log_p, log_lower = estimate.log_probability[longer], estimate.log_probability[ngrams.shorter[longer] - 1]
    p, lower = np.exp(log_p), np.exp(log_lower)
    nodes = len(ngrams.keys) + 1
    left = np.maximum(1 - np.bincount(context, lower, nodes), 0)[context]
    log_backoff = estimate.log_backoff[context - 1]
    unseen = np.exp(log_backoff) * left
    log_changed = np.log((unseen + p) / (left + lower))
    history = ngrams.counts[context - 1] / ngrams.counts[ngrams.of_order(1)].sum()
    costs = np.full(len(ngrams.keys), np.inf)
    costs[longer] = history * (p * (log_p - log_lower - log_changed) + unseen * (log_backoff - log_changed))
    return costs


def prefix_closed(worth: Floats, ngrams: Ngrams) -> Floats:
    """float64 [M]: the worth of an n-gram or of the best one that begins with it, which cannot be there without it."""
    worth = worth.copy()
    for order in range(ngrams.order, 1, -1):
        part = ngrams.of_order(order)
        np.maximum.at(worth, ngrams.context[part] - 1, worth[part])
    return worth


def keep(estimate: Estimate, kept: npt.NDArray[np.bool_]) -> Estimate:
    """The model of some n-grams, its back-off weights made new so that every context sums to 1.

    Args:
        kept: bool [M], true for all unigrams and for the prefixes of what is kept.
    """
    old = estimate.ngrams
    suffix = old.shorter
    for _ in range(old.order):
        gone = (suffix > 0) & ~kept[suffix - 1]
        suffix = np.where(gone, old.shorter[suffix - 1], suffix)
    renumbered = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    ngrams = Ngrams(
        keys=renumbered[old.context[kept]] * old.vocabulary_size + old.word[kept],
        shorter=renumbered[suffix[kept]],
        bounds=tuple(renumbered[list(old.bounds)].tolist()),
        counts=old.counts[kept],
        vocabulary_size=old.vocabulary_size,
    )
    log_probability = estimate.log_probability[kept]
    log_backoff = np.zeros_like(log_probability)
    model = as_model(Estimate(ngrams, log_probability, log_backoff))
    for order in range(2, ngrams.order + 1):
        part = ngrams.of_order(order)
        context, word = ngrams.context[part], ngrams.word[part]
        # of lower order, so that all weights it may need are there already: the model shares their array
        lower, _ = model.look_up(torch.from_numpy(ngrams.shorter[context - 1]), torch.from_numpy(word))
        seen = np.bincount(context, np.exp(log_probability[part]), len(kept) + 1)
        seen_lower = np.bincount(context, lower.exp().numpy(), len(kept) + 1)
        followed = np.unique(context)
        unseen, unseen_lower = 1 - seen[followed], 1 - seen_lower[followed]
        # a context that knows every word backs off for none
        some = (unseen > ROUNDING) & (unseen_lower > ROUNDING)
        log_backoff[followed[some] - 1] = np.log(unseen[some] / unseen_lower[some])
    return Estimate(ngrams, log_probability, log_backoff)


ROUNDING = 1e-12
"""Probability that may be left of 1 by rounding alone."""


def as_model(estimate: Estimate) -> NgramModel:
    """The model for queries, of arrays that it shares with the estimate where their type allows."""
    ngrams = estimate.ngrams
    return NgramModel(
        keys=torch.from_numpy(ngrams.keys),
        shorter=torch.from_numpy(ngrams.shorter),
        log_probability=torch.from_numpy(estimate.log_probability),
        log_backoff=torch.from_numpy(estimate.log_backoff),
        vocabulary_size=ngrams.vocabulary_size,
        bounds=ngrams.bounds,
    )
