"""How sure the difference between two systems is that converted the same sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Interval:
    """The difference of two error rates: that of the first system less that of the second."""

    difference: float
    """On the sentences themselves; above 0 where the second system is better."""
    low: float
    high: float
    """The 95 % interval. Where it leaves out 0, the systems differ by more than the choice of sentences explains."""


def paired_interval(
    right_a: Sequence[int] | npt.NDArray[np.integer],
    right_b: Sequence[int] | npt.NDArray[np.integer],
    counts: Sequence[int] | npt.NDArray[np.integer],
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Paired bootstrap over sentences (Efron and Tibshirani 1993, chapter 13; for sentences Koehn 2004).

    Every draw takes as many sentences as there are, with replacement, the same ones of both systems, and takes the
    difference of the error rates over all their characters. The interval goes from the 2.5th to the 97.5th percentile
    of the draws.

    Args:
        right_a: int [sentences], right characters of each sentence by the first system.
        right_b: the same of the second system.
        counts: int [sentences], counted characters of each sentence; sentences without any are left out.
        draws: how many.
        seed: of the draws.

    Raises:
        ValueError: the lengths differ, nothing is counted, or more is right than counted.
    """
    a, b, total = (np.asarray(values, np.int64) for values in (right_a, right_b, counts))
    if not a.shape == b.shape == total.shape:
        raise ValueError(f"of how many sentences: {a.shape}, {b.shape} or {total.shape}?")
    if (np.minimum(a, b) < 0).any() or (np.maximum(a, b) > total).any():
        raise ValueError("a sentence has fewer than 0 right characters, or more than are counted")
    gains, total = (b - a)[total > 0], total[total > 0]
    if not len(total):
        raise ValueError("no sentence has a counted character")
    generator = np.random.default_rng(seed)
    drawn = np.empty(draws)
    for number in range(draws):
        chosen = generator.integers(len(total), size=len(total))
        drawn[number] = gains[chosen].sum() / total[chosen].sum()
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(float(gains.sum() / total.sum()), float(low), float(high))
