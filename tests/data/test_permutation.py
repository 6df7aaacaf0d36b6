"""The permutation that is never written out: one it is, random it looks, and fast."""

import time
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data.permutation import derive_keys, permute


def deviations_from_uniform(counts: Sequence[int] | np.ndarray) -> float:
    """Pearson's chi-square in standard deviations of a normal variable (Wilson and Hilferty 1931)."""
    freedom = len(counts) - 1
    expected = np.mean(counts)
    statistic = ((np.asarray(counts) - expected) ** 2).sum() / expected
    variance = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - variance)) / variance**0.5)


def permutation_of(size: int, seed: int, number: int = 0) -> np.ndarray:
    return permute(np.arange(size), size, derive_keys(seed, np.array([number])))


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_every_number_comes_once(size: int, seed: int) -> None:
    assert np.array_equal(np.sort(permutation_of(size, seed)), np.arange(size))


@given(st.integers(1, 2**62), st.data())
def test_in_any_range_different_numbers_stay_different(size: int, data: st.DataObject) -> None:
    index = np.array(data.draw(st.lists(st.integers(0, size - 1), unique=True, min_size=1)))
    found = permute(index, size, derive_keys(7, np.array([0])))
    assert len(set(found.tolist())) == len(index)
    assert ((found >= 0) & (found < size)).all()


def test_a_key_of_its_own_for_every_number() -> None:
    """As where a window straddles epochs: each element as under its own key alone."""
    size, epochs = 1000, np.arange(1000) % 3
    mixed = permute(np.arange(size), size, derive_keys(5, epochs))
    for epoch in range(3):
        mine = epochs == epoch
        assert np.array_equal(mixed[mine], permutation_of(size, 5, epoch)[mine])


def many_permutations(size: int, count: int) -> np.ndarray:
    """[count, size], under keys of successive epochs, as they come."""
    keys = np.repeat(derive_keys(3, np.arange(count)), size)
    return permute(np.tile(np.arange(size), count), size, keys).reshape(count, size)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_permutations_of_few_are_equally_likely(size: int) -> None:
    counts = dict.fromkeys(permutations(range(size)), 0)
    for row in many_permutations(size, 200 * len(counts)).tolist():
        counts[tuple(row)] += 1
    assert abs(deviations_from_uniform(list(counts.values()))) < 4


@pytest.mark.parametrize("size", [*range(6, 14), 49, 50])
def test_two_numbers_go_anywhere_equally_likely(size: int) -> None:
    found = many_permutations(size, 100 * size**2)
    different = ~np.eye(size, dtype=bool).flatten()
    for one, other in ((0, 1), (0, size - 1), (size // 2, size - 1)):
        counts = np.bincount(found[:, one] * size + found[:, other], minlength=size**2)
        assert abs(deviations_from_uniform(counts[different])) < 4


@pytest.mark.parametrize("size", [1000, 65_537, 1_000_003])
def test_places_are_uniform_and_neighbours_independent(size: int) -> None:
    """Sixteen cells for a number, 256 for it and the one after it, and for it and where it goes under the next key."""
    cell = permutation_of(size, 11) * 16 // size
    other = permutation_of(size, 11, number=1) * 16 // size
    origin = np.arange(size) * 16 // size
    # cells of 1,000 and of 65,537 are not equally large: none of them is off by more than one number
    for pairs in (16 * cell[:-1] + cell[1:], 16 * cell + other, 16 * origin + cell):
        assert abs(deviations_from_uniform(np.bincount(pairs, minlength=256))) < 4


def test_a_window_takes_milliseconds() -> None:
    index = np.random.default_rng(0).integers(0, 10**9, 65_536)
    keys = derive_keys(1, np.array([0]))
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        permute(index, 10**9, keys)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05
