"""Probabilities of n-grams by interpolated modified Kneser-Ney smoothing (Chen and Goodman 1998), as `lmplz` estimates.

Counts of the orders below the highest are adjusted: how many different words stand before the n-gram, but plain
occurrences where it begins with <s>, before which nothing stands. Unigrams are interpolated with the uniform
distribution over all words but <s>, so that a word without occurrence, as <unk> mostly is, has a probability too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hzlm.tools.ngram.count import Ints, Ngrams
from hzlm.vocabulary import Vocabulary

Floats = npt.NDArray[np.float64]

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
"""Discounts of an order whose text is too small to tell them; the values of `lmplz --discount_fallback`."""


@dataclass(frozen=True)
class Estimate:
    """A back-off model: p(w | h) of an n-gram that is there, else the back-off weight of h times p(w | shorter h)."""

    ngrams: Ngrams
    log_probability: Floats
    """float64 [M], natural logarithm; 0 for <s>, which is never predicted."""
    log_backoff: Floats
    """float64 [M], natural logarithm of the weight of each n-gram as a context; 0 where it is none."""


def estimate(ngrams: Ngrams) -> Estimate:
    """The smoothed model of all n-grams counted."""
    adjusted = _adjust(ngrams)
    discounts = np.zeros(len(adjusted))
    for order in range(1, ngrams.order + 1):
        part = ngrams.of_order(order)
        amounts = np.array((0.0, *discounts_of(adjusted[part])))
        discounts[part] = amounts[np.minimum(adjusted[part], 3)]
    # sums over the words that follow a context, by its node
    nodes = len(adjusted) + 1
    total = np.bincount(ngrams.context, adjusted, nodes)
    rest = np.bincount(ngrams.context, discounts, nodes) / np.maximum(total, 1)
    is_start = (ngrams.context == 0) & (ngrams.word == Vocabulary.bos_id)
    probability = (adjusted - discounts) / total[ngrams.context]
    unigrams = ngrams.of_order(1)
    probability[unigrams] += rest[0] / (ngrams.bounds[1] - 1)
    probability[is_start] = 1.0
    for order in range(2, ngrams.order + 1):
        part = ngrams.of_order(order)
        probability[part] += rest[ngrams.context[part]] * probability[ngrams.shorter[part] - 1]
    backoff = np.where(total[1:] > 0, rest[1:], 1.0)
    return Estimate(ngrams, np.log(probability), np.log(backoff))


def discounts_of(counts: Ints) -> tuple[float, float, float]:
    """What is taken off counts of 1, 2 and 3 or more of one order (Chen and Goodman 1998, equation 26).

    `FALLBACK_DISCOUNTS` where no n-gram has a count of 1, 2 or 3, or where a discount is not above 0, or above its
    count.
    """
    of_count = np.bincount(counts[counts < 5], minlength=5).astype(float)
    if not of_count[1:4].all():
        return FALLBACK_DISCOUNTS
    y = of_count[1] / (of_count[1] + 2 * of_count[2])
    one, two, three = (j - (j + 1) * y * of_count[j + 1] / of_count[j] for j in (1, 2, 3))
    if not (0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3):
        return FALLBACK_DISCOUNTS
    return float(one), float(two), float(three)


def _adjust(ngrams: Ngrams) -> Ints:
    """int64 [M], the adjusted counts; 0 for <s>."""
    adjusted = np.bincount(ngrams.shorter, minlength=len(ngrams.keys) + 1)[1:]
    longest = ngrams.of_order(ngrams.order)
    adjusted[longest] = ngrams.counts[longest]
    starts = np.zeros(len(adjusted), bool)
    starts[ngrams.of_order(1)] = ngrams.word[ngrams.of_order(1)] == Vocabulary.bos_id
    for order in range(2, ngrams.order + 1):
        part = ngrams.of_order(order)
        starts[part] = starts[ngrams.context[part] - 1]
    adjusted[starts] = ngrams.counts[starts]
    adjusted[np.flatnonzero(starts[ngrams.of_order(1)])] = 0
    return adjusted
