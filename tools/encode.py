"""Annotated sentences -> records of ids."""

import numpy as np
import numpy.typing as npt

from hzlm.data.dataset import MARK_AMBIGUOUS, MARK_WORD_START, Record
from hzlm.pinyin import TONED_SYLLABLES
from hzlm.vocabulary import Vocabulary

_CODE_POINTS = 0x110000


class RecordEncoder:
    """Turns the streams of a `Spool` into records of one vocabulary, by table look-up."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._id_of_code = np.full(_CODE_POINTS, vocabulary.unknown_id, np.int32)
        self._id_of_code[[ord(character) for character in vocabulary.characters]] = np.arange(
            vocabulary.target_start, vocabulary.size
        )
        index = {reading: i for i, reading in enumerate(TONED_SYLLABLES)}
        self._is_known = np.zeros((vocabulary.target_size, len(TONED_SYLLABLES)), np.bool_)
        self._is_ambiguous = np.zeros(vocabulary.size, np.bool_)
        for hanzi, counts in vocabulary.readings.items():
            target = self._id_of_code[ord(hanzi)]
            self._is_known[target - vocabulary.target_start, [index[reading] for reading in counts]] = True
            self._is_ambiguous[target] = sum(count > 0 for count in counts.values()) > 1

    def encode(
        self, codes: npt.NDArray[np.int32], readings: npt.NDArray[np.int16], word_starts: npt.NDArray[np.uint8]
    ) -> Record | None:
        """Three streams [N] as a record; None where the vocabulary lacks a reading of a hanzi that it holds.

        A hanzi outside the vocabulary is [UNK] and keeps its reading, for that is what people type.
        """
        hanzi = self._id_of_code[codes]
        is_read = readings >= 0
        judged = is_read & (hanzi >= self.vocabulary.target_start)
        if not self._is_known[hanzi[judged] - self.vocabulary.target_start, readings[judged]].all():
            return None
        reading = np.where(is_read, self.vocabulary.toned_start + readings.astype(np.int32), hanzi)
        marks = MARK_WORD_START * word_starts + MARK_AMBIGUOUS * (self._is_ambiguous[hanzi] & is_read)
        return Record(hanzi, reading, marks.astype(np.uint8))
