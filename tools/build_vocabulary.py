"""A vocabulary out of training text and the dictionary."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from pypinyin.constants import PINYIN_DICT

from hzlm.pinyin import TONED_SYLLABLES
from hzlm.tools.annotate import NO_READING, typed_reading
from hzlm.tools.spool import Spool
from hzlm.vocabulary import Vocabulary

PairCounts = Mapping[tuple[str, str | None], int]
"""(character, reading such as `zhong1` or None) -> how often the text shows them together."""

_CHUNK = 1 << 22


def build_vocabulary(counts: PairCounts, coverage: float) -> Vocabulary:
    """The vocabulary of the most frequent characters that together make up `coverage` of the text.

    A hanzi's readings are those of the dictionary united with those that the text shows.
    """
    totals: Counter[str] = Counter()
    for (character, _), count in counts.items():
        totals[character] += count
    needed = coverage * totals.total()
    characters: list[str] = []
    covered = 0
    for character, count in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        if covered >= needed:
            break
        characters.append(character)
        covered += count
    readings = {character: dict.fromkeys(dictionary_readings(character), 0) for character in characters}
    for (character, reading), count in counts.items():
        if reading is not None and character in readings:
            readings[character][reading] = count
    return Vocabulary(tuple(characters), {hanzi: of_hanzi for hanzi, of_hanzi in readings.items() if of_hanzi})


def dictionary_readings(character: str) -> list[str]:
    """The readings that pypinyin's single-character dictionary has, as in `zhong1`; none for what is no hanzi."""
    typed = map(typed_reading, PINYIN_DICT.get(ord(character), "").split(","))
    return [reading for reading in typed if reading is not None]


def count_pairs(spool: Spool) -> PairCounts:
    """Counts every character with every reading in the sentences of a split."""
    codes, readings = spool.codes.numbers, spool.readings.numbers
    base = len(TONED_SYLLABLES) + 1
    counts: Counter[int] = Counter()
    for start in range(0, len(codes), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        pairs, times = np.unique(codes[chunk].astype(np.int64) * base + (readings[chunk] + 1), return_counts=True)
        counts.update(dict(zip(pairs.tolist(), times.tolist(), strict=True)))
    return {_unpack(pair, base): count for pair, count in counts.items()}


def _unpack(pair: int, base: int) -> tuple[str, str | None]:
    code, reading = divmod(pair, base)
    return chr(code), None if reading - 1 == NO_READING else TONED_SYLLABLES[reading - 1]
