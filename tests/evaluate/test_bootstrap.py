"""Intervals that can be worked out, and properties that any must have."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.evaluate.bootstrap import paired_interval

# (right of the first, right of the second, counted) of each sentence
SENTENCES = st.lists(
    st.integers(1, 9).flatmap(lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))),
    min_size=1,
    max_size=8,
)


def test_two_sentences_by_hand() -> None:
    # The draws are (1, 1), (1, 2), (2, 1) and (2, 2): differences 1/2, 0 of 4 characters, -1/2, a quarter, a half and a
    # quarter of all draws; so far more than 2.5 % of them lie at either end.
    found = paired_interval([1, 2], [2, 1], [2, 2])
    assert (found.difference, found.low, found.high) == (0.0, -0.5, 0.5)


def test_sentences_weigh_as_much_as_they_have_characters() -> None:
    # differences of the draws: 1/1, 1/4 (of 4 characters in two unlike sentences), 0/6
    found = paired_interval([0, 2], [1, 2], [1, 3])
    assert (found.difference, found.low, found.high) == (0.25, 0.0, 1.0)


@pytest.mark.parametrize(("sentences", "gained"), [(200, 20), (400, 4)])
def test_gains_of_single_characters_are_binomial(sentences: int, gained: int) -> None:
    """Each draw's gain is Binomial(n, k / n); the interval ends at its percentiles."""
    gains = [1] * gained + [0] * (sentences - gained)
    found = paired_interval([0] * sentences, gains, [1] * sentences, draws=4000, seed=1)
    share = gained / sentences
    weights = [math.comb(sentences, k) * share**k * (1 - share) ** (sentences - k) for k in range(sentences + 1)]
    ends = []
    for level in (0.025, 0.975):
        below = 0.0
        ends.append(next(k for k, weight in enumerate(weights) if (below := below + weight) >= level) / sentences)
    assert found.difference == pytest.approx(share)
    assert (found.low, found.high) == pytest.approx(ends, abs=1.01 / sentences)


@settings(max_examples=30)
@given(SENTENCES, st.integers(0, 5))
def test_any_two_systems(sentences: list[tuple[int, int, int]], seed: int) -> None:
    a, b, counts = map(list, zip(*sentences, strict=True))
    found = paired_interval(a, b, counts, draws=50, seed=seed)
    assert found == paired_interval(a, b, counts, draws=50, seed=seed)
    other = paired_interval(b, a, counts, draws=50, seed=seed)
    assert (other.difference, other.low, other.high) == pytest.approx((-found.difference, -found.high, -found.low))
    each = [(y - x) / n for x, y, n in sentences]
    assert min(each) - 1e-9 <= found.low <= found.high <= max(each) + 1e-9
    assert paired_interval([*a, 0], [*b, 0], [*counts, 0], draws=50, seed=seed) == found, "nothing is counted there"


def test_equal_systems_differ_by_nothing() -> None:
    found = paired_interval([1, 5, 0], [1, 5, 0], [3, 5, 2], draws=20)
    assert (found.difference, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("a", "b", "counts", "message"),
    [
        ([1], [1, 1], [1, 1], "how many"),
        ([2], [1], [1], "more than"),
        ([-1], [0], [1], "fewer"),
        ([0], [0], [0], "no s"),
    ],
)
def test_what_cannot_be(a: list[int], b: list[int], counts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_interval(a, b, counts)
