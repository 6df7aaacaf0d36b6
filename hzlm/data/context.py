"""Preceding sentences: what a sample may be given as context."""

import numpy as np
import numpy.typing as npt

from hzlm.data.dataset import Dataset
from hzlm.data.marks import MARK_FOLLOWS

Numbers = npt.NDArray[np.int64]


def count_preceding(dataset: Dataset, records: Numbers, room: Numbers) -> Numbers:
    """How many of the sentences before each of some sentences are its context.

    Args:
        dataset: that they are in.
        records: int64 [n], their numbers.
        room: int64 [n], positions that the context may take.

    Returns:
        int64 [n]: the whole sentences that fit, back to where one is missing in the text.
    """
    marks = dataset.streams["marks"]
    offsets, lengths = marks.offsets, dataset.lengths
    starts = dataset.documents[np.searchsorted(dataset.documents, records, side="right") - 1]

    def has_previous(numbers: Numbers, starts: Numbers) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = numbers > starts
        found[found] = (marks.numbers[offsets[numbers[found]]] & MARK_FOLLOWS) > 0
        return found

    counts = np.zeros(len(records), np.int64)
    waiting = np.flatnonzero(has_previous(records, starts))
    at, left = records.copy(), room.copy()
    while len(waiting):
        at[waiting] -= 1
        left[waiting] -= lengths[at[waiting]]
        waiting = waiting[left[waiting] >= 0]
        counts[waiting] += 1
        waiting = waiting[has_previous(at[waiting], starts[waiting])]
    return counts


def positions_before(dataset: Dataset, records: Numbers, counts: Numbers) -> Numbers:
    """Positions of the `counts` sentences before each of `records`; all int64 [n]."""
    marks = dataset.streams["marks"]  # a mark is a byte, so its place is its offset
    return marks.offsets[records] - marks.offsets[records - counts]
