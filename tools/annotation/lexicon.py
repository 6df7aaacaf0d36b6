"""How words and single hanzi are read: the dictionaries united."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from pypinyin.constants import PHRASES_DICT, PINYIN_DICT
from pypinyin_dict import phrase_pinyin_data

from hzlm.tools.annotation.corrections import HANZI, LOOSE, WORDS
from hzlm.tools.annotation.readings import READING_INDEX, typed_reading

Readings = tuple[int, ...]
"""Indices into `TONED_SYLLABLES`, one for each hanzi."""

_LARGE = "large_pinyin_"
_AS_WRITTEN = {
    ("一", "yi2"): "yi1",
    ("一", "yi4"): "yi1",
    ("不", "bu2"): "bu4",
    ("不", "bu5"): "bu4",
    ("儿", "er5"): "er2",
}
"""一 and 不 keep their own tone, as in dictionaries, where some phrases have what they sound like before the next
one; so does 儿, which is a syllable of its own to who types it, however it merges with the one before in speech."""

_typed = cache(typed_reading)


@dataclass(frozen=True)
class Spelling:
    """How a word is read."""

    readings: Readings
    loose: tuple[int, ...]
    """Places in the word that no entry of several hanzi covers: their reading is only the usual one of the hanzi."""
    given: tuple[int, ...]
    """Places in the word that are read as the words given to the lexicon say."""


class Lexicon:
    """The readings of words.

    What a word is read like says, in this order: the words given; our corrections; pypinyin's phrases; the large phrase
    list of pypinyin-dict; and for what is in none, the longest entries that make it up, and else each hanzi on its own.

    Args:
        is_word: whether the segmenter may cut this word. Others of the large list are left out: they could serve
            inside longer words only, and are most of it.
        words: readings by word.
    """

    def __init__(self, is_word: Callable[[str], bool], words: Mapping[str, Readings]) -> None:
        self._given = frozenset(words)
        with _garbage_left():
            self._words = dict(_read_large(is_word))
            self._words.update(pypinyin_phrases())
        self._hanzi = pypinyin_hanzi() | {pair[0]: READING_INDEX[pair[1:]] for pair in HANZI.split()}
        for word in LOOSE.split():
            self._words.pop(word, None)
        for line in filter(None, WORDS.splitlines()):
            corrected, *corrections = line.split()
            for word in corrections:
                self._words[word] = self._correct(word, corrected[0], READING_INDEX[corrected[1:]])
        self._words.update(words)

    def read(self, word: str) -> Spelling | None:
        """The readings of a word that is hanzi alone; None where one of them has no reading."""
        readings: list[int] = []
        loose: list[int] = []
        given: list[int] = []
        while (start := len(readings)) < len(word):
            for end in range(len(word), start, -1):
                if (known := self._words.get(word[start:end])) is not None:
                    readings += known
                    if word[start:end] in self._given:
                        given += range(start, end)
                    break
            else:
                if word[start] not in self._hanzi:
                    return None
                loose.append(start)
                readings.append(self._hanzi[word[start]])
        return Spelling(tuple(readings), tuple(loose), tuple(given))

    def _correct(self, word: str, hanzi: str, reading: int) -> Readings:
        spelling = self.read(word)
        if spelling is None:
            raise ValueError(f"{word}: a correction of a word without readings")
        return tuple(reading if h == hanzi else r for h, r in zip(word, spelling.readings, strict=True))


def pypinyin_phrases() -> dict[str, Readings]:
    """pypinyin's own phrases; 一, 不 and 儿 in their own tone."""
    indexed = ((phrase, _index(phrase, spelled)) for phrase, spelled in PHRASES_DICT.items())
    return {phrase: readings for phrase, readings in indexed if readings is not None}


def pypinyin_hanzi() -> dict[str, int]:
    """The first of the readings that pypinyin has for each hanzi."""
    typed = ((chr(code), _typed(readings.split(",", 1)[0])) for code, readings in PINYIN_DICT.items())
    return {hanzi: READING_INDEX[reading] for hanzi, reading in typed if reading is not None}


def _read_large(is_word: Callable[[str], bool]) -> Iterator[tuple[str, Readings]]:
    one_way = {chr(code) for code, readings in PINYIN_DICT.items() if "," not in readings}
    usual = pypinyin_hanzi()
    for module in iter_modules(phrase_pinyin_data.__path__, f"{phrase_pinyin_data.__name__}."):
        if _LARGE not in module.name:
            continue
        phrases = import_module(module.name).phrases_dict
        for word, spelled in phrases.items():
            if not is_word(word) or (readings := _index(word, spelled)) is None:
                continue
            if not one_way.issuperset(word) or readings != tuple(map(usual.get, word)):
                yield word, readings
        # Else 400,000 phrases stay in memory as lists of lists.
        phrases.clear()
        del sys.modules[module.name]
        delattr(phrase_pinyin_data, module.name.rpartition(".")[2])


def _index(word: str, spelled: Sequence[Sequence[str]]) -> Readings | None:
    if len(word) != len(spelled):
        return None
    readings: list[int] = []
    for hanzi, (first, *_) in zip(word, spelled, strict=True):
        if (typed := _typed(first)) is None:
            return None
        readings.append(READING_INDEX[_AS_WRITTEN.get((hanzi, typed), typed)])
    return tuple(readings)


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Without garbage collection: among a million small objects that all stay, it takes twice the time of the rest."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
