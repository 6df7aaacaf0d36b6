"""The order in which a run sees its samples: a pure function of (seed, place in the order)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import numpy.typing as npt

from hzlm.data.blend import Blend
from hzlm.data.context import count_preceding, positions_before
from hzlm.data.packing import pack
from hzlm.data.permutation import derive_keys, permute
from hzlm.parallel.random import derive_seed

WINDOW = 65_536
"""Samples that are packed together: enough for rows without gaps, few enough to pack in a moment."""
CYCLE = 1 << 18
"""About so many places of the order hold each dataset as often as its share says."""

Numbers = npt.NDArray[np.int64]


def numpy_generator(*key: int | str) -> np.random.Generator:
    """A counter-based generator for one purpose, seeded by its key."""
    return np.random.Generator(np.random.Philox(key=derive_seed(*key)))


@dataclass(frozen=True)
class Samples:
    """Some samples of a blend; each array int64 [n]."""

    places: Numbers
    """Their places in the endless order, from 0: a number that no other sample of the run has."""
    datasets: Numbers
    """Which dataset of the blend each comes from."""
    records: Numbers
    """Its number in that dataset."""
    epochs: Numbers
    """How often that dataset was read whole before."""
    contexts: Numbers
    """How many of the sentences before it in the text stand before it as context."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Samples":
        """Some of them, by index or mask."""
        parts = (self.places, self.datasets, self.records, self.epochs, self.contexts)
        return Samples(*(part[chosen] for part in parts))


class SampleOrder:
    """The endless order of the samples of a blend, computed at any of its places.

    Which dataset a place belongs to repeats with a cycle of about `CYCLE` places, over which the datasets are spread as
    evenly as they can be (Webster's apportionment); a share is met to within 1 / `CYCLE`, and is no less than that. The
    places of one dataset go through it epoch after epoch, each time in another pseudo-random order.
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], seeds: Sequence[int]) -> None:
        """Of each dataset its sentences (at least one), its share in the samples, and the seed of its order."""
        self._sizes = np.array(sizes)
        self._seeds = seeds
        self._counts = np.maximum(1, np.rint(np.array(shares) * CYCLE)).astype(np.int64)
        owners = np.repeat(np.arange(len(sizes)), self._counts)
        draws = np.concatenate([np.arange(each) for each in self._counts.tolist()])
        by_time = np.argsort((draws + 0.5) / self._counts[owners], kind="stable")
        self._owners, self._draws = owners[by_time], draws[by_time]

    def at(self, places: Numbers) -> Samples:
        """The samples at some places (int64 [n], not negative)."""
        cycles, slots = np.divmod(places, len(self._owners))
        datasets = self._owners[slots]
        epochs, records = np.divmod(cycles * self._counts[datasets] + self._draws[slots], self._sizes[datasets])
        for number, (size, seed) in enumerate(zip(self._sizes.tolist(), self._seeds, strict=True)):
            mine = np.flatnonzero(datasets == number)
            records[mine] = permute(records[mine], size, derive_keys(seed, epochs[mine]))
        return Samples(places, datasets, records, epochs, np.zeros(len(places), np.int64))


class RowOrder:
    """Packed rows of a blend, without end.

    The order of the samples is cut into windows of W; the samples of a window are packed into rows, and the rows
    shuffled. So every row depends on the seed and its window, and on nothing that was read before. A window has at most
    W rows: w * W + r, one integer, names row r of window w. This cursor is all that a run has to remember of its data.
    """

    def __init__(self, blend: Blend, row_length: int, seed: int, context: int = 0, context_rate: float = 1.0) -> None:
        """A run's order.

        Args:
            blend: what is read.
            row_length: positions of a row, no fewer than the longest sentence has.
            seed: of the order.
            context: most positions of preceding sentences that stand before a sample.
            context_rate: share of the samples that are given them.
        """
        sizes = [len(dataset) for dataset in blend.datasets]
        seeds = [derive_seed(seed, "order", dataset.fingerprint) for dataset in blend.datasets]
        self._order = SampleOrder(sizes, blend.sample_shares, seeds)
        self._datasets = blend.datasets
        self._row_length = row_length
        self._context, self._context_rate = context, context_rate
        self._seed = seed
        # a small blend is not packed with its own repetitions
        self._window = min(WINDOW, sum(sizes))

    def rows(self, cursor: int) -> Iterator[tuple[Samples, int]]:
        """From `cursor` on: the samples of a row, and the cursor of the row after it."""
        window, row = divmod(cursor, self._window)
        while True:
            samples = self._samples(window)
            rows = self._pack(window, samples)
            start, end = window * self._window, (window + 1) * self._window
            for number in range(row, len(rows)):
                yield samples[rows[number]], end if number + 1 == len(rows) else start + number + 1
            window, row = window + 1, 0

    def first_epoch(self) -> Iterator[Samples]:
        """Rows of every sample once: of what the order has of each dataset before it begins anew.

        It ends early where the shares leave a whole window to datasets that have begun anew.
        """
        for window in count():
            samples = self._samples(window)
            samples = samples[samples.epochs == 0]
            if len(samples) == 0:
                return
            for row in self._pack(window, samples):
                yield samples[row]

    def efficiency(self) -> float:
        """Share of the positions that hold a character, in the rows of the first window."""
        samples = self._samples(0)
        return float(self._lengths_of(samples).sum()) / (len(self._pack(0, samples)) * self._row_length)

    def _samples(self, window: int) -> Samples:
        samples = self._order.at(np.arange(window * self._window, (window + 1) * self._window))
        return self._give_context(window, samples) if self._context else samples

    def _give_context(self, window: int, samples: Samples) -> Samples:
        """The samples of a window, some of them with the sentences before them."""
        room = np.minimum(self._context, self._row_length - self._lengths_of(samples))
        drawn = numpy_generator(self._seed, "context", window).random(len(samples)) < self._context_rate
        contexts = np.zeros(len(samples), np.int64)
        for number, dataset in enumerate(self._datasets):
            mine = np.flatnonzero(drawn & (samples.datasets == number))
            contexts[mine] = count_preceding(dataset, samples.records[mine], room[mine])
        return replace(samples, contexts=contexts)

    def _pack(self, window: int, samples: Samples) -> list[Numbers]:
        """The samples of each row, as indexes into `samples`."""
        rows = pack(self._lengths_of(samples), self._row_length)
        return [rows[number] for number in numpy_generator(self._seed, "rows", window).permutation(len(rows))]

    def _lengths_of(self, samples: Samples) -> Numbers:
        """Positions of each sample with its context, int64 [n]."""
        found = np.empty(len(samples), np.int64)
        for number, dataset in enumerate(self._datasets):
            mine = np.flatnonzero(samples.datasets == number)
            records, contexts = samples.records[mine], samples.contexts[mine]
            found[mine] = dataset.lengths[records]
            if contexts.any():
                found[mine] += positions_before(dataset, records, contexts)
        return found
