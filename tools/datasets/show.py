"""Records as people can read them: hanzi, reading and marks below each other."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hzlm.data.dataset import Dataset
from hzlm.data.marks import MARK_AMBIGUOUS, MARK_FOLLOWS, MARK_WORD_START, NO_SECOND, SecondReadings
from hzlm.pinyin import LITERAL, SYLLABLE

SHOWN = 20
"""Positions of a record that are shown."""
LEGEND = "w: a word begins, a: ambiguous, f: follows the record before it, =: the second reading"

PAIRS_LEGEND = "below each target what the given source has, -: the same"

_LETTERS = {MARK_WORD_START: "w", MARK_AMBIGUOUS: "a", MARK_FOLLOWS: "f"}


def show_records(dataset: Dataset, numbers: Sequence[int]) -> str:
    """The records of these numbers under a line with their number, three lines each, of pairs two; at most SHOWN
    positions.
    """
    second = SecondReadings(dataset.vocabulary)
    blocks = []
    for number in numbers:
        record = dataset.record(number)
        hanzi, reading, marks = record.hanzi[:SHOWN], record.reading[:SHOWN], record.marks[:SHOWN]
        others = second.of_marks(hanzi, marks)
        characters = _name(dataset, hanzi)
        readings = ["-" if r == h else name for h, r, name in zip(hanzi, reading, _name(dataset, reading), strict=True)]
        letters = [
            "".join(letter for bit, letter in _LETTERS.items() if mark & bit)
            + (f"={name}" if other != NO_SECOND else "")
            for mark, other, name in zip(marks, others, _name(dataset, others), strict=True)
        ]
        more = f", {len(record.hanzi) - SHOWN} more" if len(record.hanzi) > SHOWN else ""
        title = f"{dataset.split} {number}: {len(record.hanzi)} positions{more}"
        rows = [characters, readings] if dataset.is_pairs else [characters, readings, letters]
        blocks.append("\n".join([title, *_align(rows)]))
    return "\n".join([*blocks, PAIRS_LEGEND if dataset.is_pairs else LEGEND])


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers 0 to count - 1, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)).tolist()


def _name(dataset: Dataset, ids: npt.NDArray[np.integer]) -> list[str]:
    tokens = dataset.vocabulary.tokens
    return [tokens[i].removeprefix(LITERAL).removeprefix(SYLLABLE) if 0 <= i < len(tokens) else f"?{i}" for i in ids]


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose columns begin below each other on a terminal, where a hanzi is two columns wide."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        lines.append(("  " + " ".join(cells)).rstrip())
    return lines


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
