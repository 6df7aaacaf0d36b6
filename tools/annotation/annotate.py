"""A sentence -> its words and the reading of every hanzi."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rjieba

from hzlm.pinyin import HANZI_RANGES, is_hanzi
from hzlm.tools.annotation.contexts import CONTEXTS
from hzlm.tools.annotation.lexicon import Lexicon, Spelling
from hzlm.tools.annotation.phrases import PhraseReader
from hzlm.tools.annotation.readings import NO_READING
from hzlm.tools.annotation.rules import SAME_WORD, parse_rules
from hzlm.tools.annotation.user_dictionary import UserWord, read_dictionary

_RUN = re.compile(f"[{HANZI_RANGES}]+|[^{HANZI_RANGES}]+")
_CACHED_WORDS = 1 << 16
_USER_TAG = "n"
_NO_TAG = ""


@dataclass(frozen=True)
class Annotation:
    """What is known of a sentence of N characters."""

    readings: npt.NDArray[np.int16]
    """int16 [N], indices into `TONED_SYLLABLES`; NO_READING for what is no hanzi."""
    word_starts: npt.NDArray[np.bool_]
    """bool [N], whether a word begins here."""
    second: npt.NDArray[np.int16]
    """int16 [N], the reading that pypinyin's phrases give regardless of words; NO_READING where it is the same, and
    where a user dictionary says how to read."""


class Annotator:
    """Cuts sentences into words as jieba does, reads the words by the dictionaries, and what they leave open by rules.

    Reading word by word keeps phrases from reaching over word borders (项目的 is no mù dì). The reading that they would
    have given there is kept as the second one. Every hanzi is one syllable, as typed: 花儿 is hua1 er2.

    Args:
        dictionaries: files for `read_dictionary`, of which the later ones hold over the former ones.

    Raises:
        UserError: a dictionary cannot be read or has a wrong line.
    """

    def __init__(self, dictionaries: Sequence[Path] = ()) -> None:
        words: dict[str, UserWord] = {}
        for path in dictionaries:
            words |= read_dictionary(path)
        self._segmenter = rjieba.Jieba()
        for word, user_word in words.items():
            if len(word) > 1:
                weight = user_word.weight or self._segmenter.suggest_freq(word)
                self._segmenter.add_word(word, weight, _USER_TAG)
        readings = {word: user_word.readings for word, user_word in words.items()}
        self._lexicon = Lexicon(self._segmenter.has_word, readings)
        self._phrases = PhraseReader(readings)
        self._rules = parse_rules(CONTEXTS)
        self._read = lru_cache(_CACHED_WORDS)(self._read_word)

    def annotate(self, sentence: str) -> Annotation | None:
        """Words and readings of a sentence; None where some hanzi has no reading, so that they do not align."""
        words = self._segmenter.tag(sentence)
        readings: list[int] = []
        starts: list[int] = []
        open_places: list[tuple[int, int]] = []
        given: list[int] = []
        for number, (word, _) in enumerate(words):
            spelling = self._read(word)
            if spelling is None:
                return None
            start = len(readings)
            starts.append(start)
            open_places += [(start + place, number) for place in spelling.loose]
            if spelling.given:  # seldom
                given += [start + place for place in spelling.given]
            readings += spelling.readings
        starts.append(len(readings))
        for place, number in open_places:
            previous = SAME_WORD if place > starts[number] else words[number - 1][1] if number else _NO_TAG
            following = SAME_WORD if place + 1 < starts[number + 1] else _tag(words, number + 1)
            for rule in self._rules[sentence[place]]:
                if rule.holds(sentence, place, previous, words[number][1], following):
                    readings[place] = rule.reading
                    break
        word_starts = np.zeros(len(sentence), np.bool_)
        word_starts[starts[:-1]] = True
        chosen = np.array(readings, np.int16)
        second = np.array(self._phrases.read(sentence), np.int16)
        second[second == chosen] = NO_READING
        if given:
            second[given] = NO_READING
        return Annotation(chosen, word_starts, second)

    def _read_word(self, word: str) -> Spelling | None:
        """The readings of a word of any characters; loose are those of its hanzi that there are rules for."""
        readings: list[int] = []
        loose: list[int] = []
        given: list[int] = []
        for run in _RUN.findall(word):
            if not is_hanzi(run[0]):
                readings += [NO_READING] * len(run)
                continue
            spelling = self._lexicon.read(run)
            if spelling is None:
                return None
            loose += [len(readings) + place for place in spelling.loose if run[place] in self._rules]
            given += [len(readings) + place for place in spelling.given]
            readings += spelling.readings
        return Spelling(tuple(readings), tuple(loose), tuple(given))


def _tag(words: Sequence[tuple[str, str]], number: int) -> str:
    return words[number][1] if number < len(words) else _NO_TAG
