"""A pseudo-random permutation of any size that is computed where it is needed and never written out."""

import math

import numpy as np
import numpy.typing as npt

ROUND_PAIRS = 6
"""Pairs of rounds of the network. With four, where two numbers go is visibly uneven in a range of six; larger ranges
need fewer."""
_STEP = np.uint64(0x9E3779B97F4A7C15)

Numbers = npt.NDArray[np.uint64]


def mix(numbers: Numbers) -> Numbers:
    """The 64-bit finaliser of SplitMix64 (Steele, Lea, Flood 2014): equal inputs give equal, near ones unlike outputs.

    numbers: uint64 of any shape but the empty one. Returns a new array of that shape.
    """
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def derive_keys(seed: int, numbers: npt.NDArray[np.int64]) -> Numbers:
    """One key for `permute` per number, uint64 of the shape of `numbers` (not empty). seed: 0 to 2^64 - 1."""
    return mix(np.uint64(seed) + _STEP * (numbers.astype(np.uint64) + np.uint64(1)))


def permute(index: npt.NDArray[np.int64], size: int, keys: Numbers) -> npt.NDArray[np.int64]:
    """Where pseudo-random permutations of range(size) take some of its numbers.

    A generalised Feistel network on pairs from Z_rows x Z_columns, whose product is barely more than `size`, with cycle
    walking: Black and Rogaway 2002, "Ciphers with arbitrary finite domains". Memory is for the given numbers alone.

    Args:
        index: int64 [n], each in 0..size - 1.
        size: 1 to 2^62.
        keys: uint64 [n] (or [1], for all), which permutation: the same key, the same permutation.

    Returns:
        int64 [n], each in 0..size - 1.
    """
    rows = math.isqrt(size - 1) + 1
    columns = -(-size // rows)
    keys = np.broadcast_to(keys, index.shape)
    found = _encipher(index.astype(np.uint64), rows, columns, keys)
    while (outside := np.flatnonzero(found >= size)).size:
        found[outside] = _encipher(found[outside], rows, columns, keys[outside])
    return found.astype(np.int64)


def _encipher(numbers: Numbers, rows: int, columns: int, keys: Numbers) -> Numbers:
    """A permutation of range(rows * columns)."""
    right, left = np.divmod(numbers, np.uint64(rows))
    for _ in range(ROUND_PAIRS):
        # halved, so that the sum does not pass 2^64
        keys = keys + _STEP
        left = (left + (mix(keys ^ right) >> np.uint64(1))) % np.uint64(rows)
        keys = keys + _STEP
        right = (right + (mix(keys ^ left) >> np.uint64(1))) % np.uint64(columns)
    return right * np.uint64(rows) + left
