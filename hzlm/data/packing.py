"""Packing: which samples share a row."""

from collections.abc import Sequence

import numpy as np


def pack(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Best-fit decreasing: the longest sample first, each into the fullest row that still has room for it.

    Args:
        lengths: int [samples], each in 1..capacity.
        capacity: positions in a row.

    Returns:
        For each row the indexes of its samples. The same lengths give the same rows.
    """
    rows: list[list[int]] = []
    rows_by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    for sample in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[sample])
        room = next((r for r in range(length, capacity + 1) if rows_by_room[r]), None)
        if room is None:
            row, room = len(rows), capacity
            rows.append([])
        else:
            row = rows_by_room[room].pop()
        rows[row].append(sample)
        rows_by_room[room - length].append(row)
    return rows


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
