"""Packing: which samples share a row."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


def pack(lengths: npt.NDArray[np.integer], capacity: int) -> list[Numbers]:
    """Best-fit decreasing: the longest sample first, each into the fullest row that still has room for it.

    Samples of one length are placed together, each row taking as many of them as it holds, the fullest first: that is
    what placing them one by one comes to.

    Args:
        lengths: int [samples], each in 1..capacity.
        capacity: positions in a row.

    Returns:
        For each row the indexes of its samples, int64. The same lengths give the same rows.
    """
    packing = _Packing(len(lengths), capacity)
    longest_first = np.argsort(-lengths.astype(np.int64), kind="stable")
    borders = np.flatnonzero(np.diff(lengths[longest_first], prepend=0, append=0)).tolist()
    for start, end in pairwise(borders):
        packing.place(longest_first[start:end], int(lengths[longest_first[start]]))
    return packing.rows()


class _Packing:
    """Rows that are being filled."""

    def __init__(self, samples: int, capacity: int) -> None:
        self._capacity = capacity
        self._row_of = np.empty(samples, np.int64)
        self._rows_by_room: dict[int, Numbers] = {}
        self._count = 0

    def place(self, samples: Numbers, length: int) -> None:
        """Puts samples of one length into the fullest rows with room, and what is left into new ones."""
        for room in sorted(room for room in self._rows_by_room if room >= length):
            rows = self._rows_by_room.pop(room)
            needed = -(-len(samples) // (room // length))
            self._add(rows[needed:], room)
            samples = self._fill(rows[:needed], room, samples, length)
        needed = -(-len(samples) // (self._capacity // length))
        self._fill(np.arange(self._count, self._count + needed), self._capacity, samples, length)
        self._count += needed

    def rows(self) -> list[Numbers]:
        """The samples of each row."""
        by_row = np.argsort(self._row_of, kind="stable")
        ends = np.cumsum(np.bincount(self._row_of, minlength=self._count)).tolist()
        return [by_row[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _fill(self, rows: Numbers, room: int, samples: Numbers, length: int) -> Numbers:
        """Fills rows that all have the same room, none of them in vain; returns the samples that did not fit."""
        if len(rows) == 0:
            return samples
        each = room // length
        placed = samples[: len(rows) * each]
        self._row_of[placed] = np.repeat(rows, each)[: len(placed)]
        in_the_last = len(placed) - each * (len(rows) - 1)
        self._add(rows[:-1], room - each * length)
        self._add(rows[-1:], room - in_the_last * length)
        return samples[len(placed) :]

    def _add(self, rows: Numbers, room: int) -> None:
        if len(rows):
            others = self._rows_by_room.get(room)
            self._rows_by_room[room] = rows if others is None else np.concatenate([others, rows])


def segment_places(lengths: Sequence[int], capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the samples of a row lie, one after the other.

    Returns:
        segments int32 [capacity] (1, 2, ... on the samples, 0 on what is left) and positions int64 [capacity]
        (counted from the start of each sample).
    """
    segments = np.zeros(capacity, dtype=np.int32)
    positions = np.zeros(capacity, dtype=np.int64)
    start = 0
    for number, length in enumerate(lengths, start=1):
        segments[start : start + length] = number
        positions[start : start + length] = np.arange(length)
        start += length
    return segments, positions
