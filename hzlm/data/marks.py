"""The marks of a character: one byte beside its hanzi and its reading.

Bits 0 to 2 are MARK_WORD_START, MARK_AMBIGUOUS and MARK_FOLLOWS. Bits 3 to 7 say which other reading a second
opinion had: 0 for none, else 1 + its index among the sorted readings that the vocabulary knows of the hanzi.
"""

import numpy as np
import numpy.typing as npt

from hzlm.pinyin import SYLLABLE
from hzlm.vocabulary import Vocabulary

MARK_WORD_START = 1
"""A word begins here."""
MARK_AMBIGUOUS = 2
"""Training text shows the hanzi with more than one reading."""
MARK_FOLLOWS = 4
"""On the first character of a sentence alone: the sentence before it in the text is the record before it."""
SECOND_SHIFT = 3
"""The number of the second reading begins at this bit."""
MOST_SECOND = 31
"""The largest number of a second reading; a reading with a higher one cannot be noted."""

NO_SECOND = -1
"""In place of an id, where there is no second reading."""


class SecondReadings:
    """Turns the ids of second readings into bits 3 to 7 of the marks, and back, by table look-up."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids = np.full((vocabulary.size, MOST_SECOND + 1), NO_SECOND, np.int32)
        for hanzi, counts in vocabulary.readings.items():
            readings = sorted(counts)[:MOST_SECOND]
            ids = [vocabulary.id_of(SYLLABLE + reading) for reading in readings]
            self._ids[vocabulary.id_of(f"lit:{hanzi}"), 1 : 1 + len(ids)] = ids

    def to_marks(self, hanzi: npt.NDArray[np.integer], second: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """The bits, to be added to other marks.

        Args:
            hanzi: int [N], ids.
            second: int [N], toned syllable ids, or NO_SECOND.

        Returns:
            uint8 [N]; 0 also where the vocabulary does not know the hanzi with that reading.
        """
        marks = np.zeros(len(hanzi), np.uint8)
        places = np.flatnonzero(second != NO_SECOND)
        # Column 0 is never equal, so that argmax gives 0 where nothing is.
        numbers = (self._ids[hanzi[places]] == second[places, None]).argmax(axis=1)
        marks[places] = numbers << SECOND_SHIFT
        return marks

    def of_marks(self, hanzi: npt.NDArray[np.integer], marks: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
        """The toned syllable ids, int32 [N], of ids and marks [N]; NO_SECOND where there is none."""
        return self._ids[hanzi, marks >> SECOND_SHIFT]
