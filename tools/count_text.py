"""How often a text shows each character with each reading, and each run of letters and digits."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hzlm.errors import UserError
from hzlm.pieces import RUN
from hzlm.pinyin import TONED_SYLLABLES
from hzlm.stored_json import load_json

PairCounts = Mapping[tuple[str, str | None], int]
"""(character, reading such as `zhong1` or None) -> how often the text shows them together."""

Ints = npt.NDArray[np.int64]

LONGEST_RUN = 32
"""Longer runs are addresses and keys rather than words, and are not counted."""
MOST_RUNS = 1 << 18
"""Different runs that a count keeps; it takes 130 MB at most, when it has twice as many and sorts them."""

_BASE = len(TONED_SYLLABLES) + 1
_AT_ONCE = 1 << 22


def count_pairs(codes: npt.NDArray[np.integer], readings: npt.NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Counts every character with every reading.

    Args:
        codes: [N], code points.
        readings: [N], index in TONED_SYLLABLES, -1 for none.

    Returns:
        the distinct pairs as numbers, int64 [P], ascending, and how often each comes, int64 [P].
    """
    counted = []
    for start in range(0, len(codes), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        pairs = codes[part].astype(np.int64) * _BASE + (readings[part].astype(np.int64) + 1)
        counted.append(np.unique(pairs, return_counts=True))
    return merge_counts(counted)


def merge_counts(counted: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """The counts of several texts, each as `count_pairs` gives them, as those of one."""
    nothing = np.empty(0, np.int64)
    numbers = np.concatenate([nothing, *(pairs for pairs, _ in counted)])
    counts = np.concatenate([nothing, *(occurrences for _, occurrences in counted)])
    order = np.argsort(numbers, kind="stable")
    pairs, starts = np.unique(numbers[order], return_index=True)
    return pairs, np.add.reduceat(counts[order], starts) if len(starts) else counts


def unpack_counts(pairs: Ints, counts: Ints) -> PairCounts:
    """What `count_pairs` gives, as characters and readings."""
    unpacked = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        code, reading = divmod(pair, _BASE)
        unpacked[chr(code), TONED_SYLLABLES[reading - 1] if reading else None] = count
    return unpacked


class RunCounts:
    """How often each run of letters and digits (`hzlm.pieces.RUN`) comes in a text.

    Its memory does not grow with the text: of more than 2 * MOST_RUNS different runs only the MOST_RUNS most frequent
    are kept, and then counting goes on. So a run that is rare everywhere may be missing, or be counted too low. The
    same text in the same parts always gives the same counts.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Run -> occurrences."""

    def add(self, text: str) -> None:
        """Counts the runs of a text."""
        self.counts.update(run for run in RUN.findall(text) if len(run) <= LONGEST_RUN)
        self._prune()

    def merge(self, other: "RunCounts") -> None:
        """Adds what was counted of another text."""
        self.counts.update(other.counts)
        self._prune()

    def save(self, path: Path) -> None:
        """Writes the counts as JSON."""
        path.write_text(json.dumps(self.counts, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "RunCounts":
        """Reads what `save` wrote. Raises `UserError` where it is missing or damaged."""
        remedy = "remove it and prepare the dataset again"
        stored = load_json(path, remedy)
        if not isinstance(stored, dict) or any(type(count) is not int for count in stored.values()):
            raise UserError(f"{path}: no counts of runs; {remedy}")
        counted = cls()
        counted.counts.update(stored)
        return counted

    def _prune(self) -> None:
        if len(self.counts) > 2 * MOST_RUNS:
            self.counts = Counter(dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_RUNS]))
