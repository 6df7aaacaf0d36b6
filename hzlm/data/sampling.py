"""The order in which a run sees its samples: a pure function of (seed, epoch, window)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hzlm.data.packing import pack
from hzlm.parallel.random import derive_seed

# samples that are packed together: enough for rows without gaps, few enough to pack in half a second
WINDOW = 65_536


@dataclass(frozen=True)
class Cursor:
    """The next row to read. All that a run has to remember of its data."""

    epoch: int = 0
    window: int = 0
    row: int = 0


def numpy_generator(*key: int | str) -> np.random.Generator:
    """A counter-based generator for one purpose, seeded by its key."""
    return np.random.Generator(np.random.Philox(key=derive_seed(*key)))


class RowOrder:
    """Packed rows of a dataset, epoch after epoch, each epoch in an order of its own.

    An epoch's samples are shuffled and cut into windows; the samples of a window are packed into rows, and the rows
    shuffled. So every row depends on (seed, epoch, window) and on nothing that was read before.
    """

    def __init__(self, lengths: np.ndarray, row_length: int, seed: int):
        """lengths: int32 [samples], each in 1..row_length; at least one sample."""
        self._lengths = lengths
        self._row_length = row_length
        self._seed = seed
        self._windows = -(-len(lengths) // WINDOW)

    def rows(self, cursor: Cursor) -> Iterator[tuple[np.ndarray, Cursor]]:
        """From `cursor` on, without end: the sample numbers of a row, and the cursor of the row after it."""
        epoch, first_window, first_row = cursor.epoch, cursor.window, cursor.row
        while True:
            order = numpy_generator(self._seed, "order", epoch).permutation(len(self._lengths))
            for window in range(first_window, self._windows):
                samples = order[window * WINDOW : (window + 1) * WINDOW]
                rows = pack(self._lengths[samples], self._row_length)
                shuffled = numpy_generator(self._seed, "rows", epoch, window).permutation(len(rows))
                for place in range(first_row, len(rows)):
                    yield samples[rows[shuffled[place]]], self._after(epoch, window, place, len(rows))
                first_row = 0
            first_window = 0
            epoch += 1

    def _after(self, epoch: int, window: int, row: int, rows: int) -> Cursor:
        if row + 1 < rows:
            return Cursor(epoch, window, row + 1)
        if window + 1 < self._windows:
            return Cursor(epoch, window + 1, 0)
        return Cursor(epoch + 1, 0, 0)
