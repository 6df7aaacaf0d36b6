"""Texts as the arrays of their hanzi, and hashes of windows of them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hzlm.pinyin import HANZI_RANGES

FEWEST_HANZI = 2
"""A text with fewer is compared by all its characters."""

_RANGES = [(ord(first), ord(last or first)) for first, last in re.findall("(.)(?:-(.))?", HANZI_RANGES)]
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)

Part = TypeVar("Part")


@dataclass(frozen=True)
class Hanzi:
    """The hanzi of several texts, one text after the other."""

    codes: NDArray[np.uint32]
    """[N], code points."""
    starts: NDArray[np.int64]
    """[texts + 1], where each text begins; the last one is N."""


@dataclass(frozen=True)
class Windows:
    """Stretches of an array of code points."""

    starts: NDArray[np.int64]
    """[windows]."""
    ends: NDArray[np.int64]
    """[windows], each the place behind the last one of its window."""


def code_points(text: str) -> NDArray[np.uint32]:
    """The code points of a text, [characters]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def are_hanzi(codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which code points are hanzi, [N] -> [N]."""
    found = np.zeros(len(codes), np.bool_)
    for first, last in _RANGES:
        # Below `first` the unsigned difference wraps around to a large number.
        found |= codes - np.uint32(first) <= last - first
    return found


def boundaries(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Where consecutive parts of these lengths [P] begin, and the end of the last: [P + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def lengths_of(parts: Sequence[Sequence[Any]]) -> NDArray[np.int64]:
    """The length of each part, as of each of several texts: [parts]."""
    return np.fromiter(map(len, parts), np.int64, len(parts))


def blocks(parts: Sequence[Part], sizes: Iterable[int], least: int) -> Iterator[Sequence[Part]]:
    """Consecutive parts whose sizes make `least` together, or less at the end: what fits into the cache at once."""
    start = total = 0
    for end, size in enumerate(sizes, start=1):
        total += size
        if total >= least or end == len(parts):
            yield parts[start:end]
            start, total = end, 0


def project(texts: Sequence[str], fewest: int = FEWEST_HANZI) -> Hanzi:
    """What is compared of each text: its hanzi alone, in order; all characters where it has fewer than `fewest` hanzi.

    Punctuation, digits, Latin and white space thus make no difference between texts.
    """
    lengths = lengths_of(texts)
    codes = code_points("".join(texts))
    kept = are_hanzi(codes)
    counts = np.diff(boundaries(kept)[boundaries(lengths)])
    few = counts < fewest
    if few.any():
        kept |= np.repeat(few, lengths)
        counts[few] = lengths[few]
    return Hanzi(codes[kept], boundaries(counts))


def ngrams(starts: NDArray[np.int64], length: int) -> tuple[Windows, NDArray[np.int64]]:
    """The windows of `length` of each text; of a shorter text, all of it.

    Args:
        starts: [texts + 1], as `Hanzi.starts`.
        length: of the n-grams.

    Returns:
        the windows text by text, at least one each; [texts + 1], at which window each text begins.
    """
    counts = np.maximum(np.diff(starts) - length + 1, 1)
    first = boundaries(counts)
    places = np.arange(first[-1]) + np.repeat(starts[:-1] - first[:-1], counts)
    return Windows(places, np.minimum(places + length, np.repeat(starts[1:], counts))), first


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit numbers that changes half of the bits when one changes (splitmix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def hash_windows(codes: NDArray[np.uint32], windows: Windows) -> NDArray[np.uint64]:
    """64-bit hashes of windows of `codes`, in a time that hangs on their number and not on their lengths.

    They are polynomials modulo 2^64 in mixed code points (Karp and Rabin 1987), as differences of prefix sums that are
    then brought to the same power.

    Args:
        codes: [N].
        windows: of `codes`, W of them.

    Returns:
        [W], equal for equal windows wherever they stand.
    """
    prefix = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(mix(codes.astype(np.uint64)) * _powers(_BASE, len(codes)), out=prefix[1:])
    shifts = _powers(_INVERSE, len(codes) + 1)
    return mix((prefix[windows.ends] - prefix[windows.starts]) * shifts[windows.starts])


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    """base^0, base^1, ... modulo 2^64, [count]."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, out=powers)
