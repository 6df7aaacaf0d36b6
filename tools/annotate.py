"""A sentence -> its words (jieba) and the reading of every hanzi (pypinyin)."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import jieba
import numpy as np
import numpy.typing as npt
from pypinyin import Style, pinyin

from hzlm.pinyin import HANZI_RANGES, TONED_SYLLABLES, UnknownSyllable, is_hanzi, parse_syllable

NO_READING = -1
"""In place of a reading, for a character that is no hanzi."""

TYPED_AS = {"n": "en", "ng": "en"}
"""What is typed for 嗯, whose readings in the dictionary have no vowel."""

_INDEX = {reading: index for index, reading in enumerate(TONED_SYLLABLES)}
_COMMON = {reading for reading in TONED_SYLLABLES if reading[:-1] not in TYPED_AS}
_RUN = re.compile(f"[{HANZI_RANGES}]+|[^{HANZI_RANGES}]+")
_CACHED_WORDS = 1 << 18
_DE5 = (_INDEX["de5"],)


@dataclass(frozen=True)
class Annotation:
    """What is known of a sentence of N characters."""

    readings: npt.NDArray[np.int16]
    """int16 [N], indices into `TONED_SYLLABLES`; NO_READING for what is no hanzi."""
    word_starts: npt.NDArray[np.bool_]
    """bool [N], whether a word begins here."""


class Annotator:
    """Cuts sentences into words and reads them word by word.

    Reading word by word keeps pypinyin's phrases from reaching over word borders (项目的 is no mù dì), and lets the
    readings of a word be kept: on news text that is eight times as fast as pypinyin on whole sentences.
    """

    def __init__(self) -> None:
        jieba.setLogLevel(logging.WARNING)
        self._cut = jieba.Tokenizer().lcut
        self._read = lru_cache(_CACHED_WORDS)(read_word)

    def annotate(self, sentence: str) -> Annotation | None:
        """Words and readings of a sentence; None where some hanzi has no reading, so that they do not align."""
        words = self._cut(sentence)
        readings: list[int] = []
        starts: list[int] = []
        for place, word in enumerate(words):
            of_word = self._read(word)
            if of_word is None:
                return None
            starts.append(len(readings))
            readings += _DE5 if word == "地" and _is_particle(words, place) else of_word
        if len(readings) != len(sentence):
            return None
        word_starts = np.zeros(len(sentence), np.bool_)
        word_starts[starts] = True
        return Annotation(np.array(readings, np.int16), word_starts)


def read_word(word: str) -> tuple[int, ...] | None:
    """The readings [N] of a word, as `Annotation` has them; None where pypinyin does not read each hanzi."""
    readings: list[int] = []
    for run in _RUN.findall(word):
        if not is_hanzi(run[0]):
            readings += [NO_READING] * len(run)
            continue
        found = pinyin(run, style=Style.TONE3, neutral_tone_with_five=True, errors="ignore")
        typed = [reading for reading in (typed_reading(reading) for (reading,) in found) if reading is not None]
        if len(typed) != len(run):
            return None
        readings += [_INDEX[reading] for reading in typed]
    return tuple(readings)


def typed_reading(reading: str) -> str | None:
    """What people type for a reading of pypinyin (`zhōng` or `zhong1`), as in `TONED_SYLLABLES`; None for no such."""
    if reading in _COMMON:
        return reading
    try:
        syllable, tone = parse_syllable(reading)
    except UnknownSyllable:
        return None
    return f"{TYPED_AS.get(syllable, syllable)}{tone or 5}"


def _is_particle(words: Sequence[str], place: int) -> bool:
    """Whether the word 地 here makes an adverb of the word before it (高兴地说), which pypinyin reads like the noun."""
    before = words[place - 1] if place else ""
    behind = words[place + 1] if place + 1 < len(words) else ""
    return len(before) > 1 and is_hanzi(before[-1]) and is_hanzi(behind[:1])
