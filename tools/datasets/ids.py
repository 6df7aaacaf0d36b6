"""Whether the ids and marks of a dataset can be what they say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hzlm.data.dataset import STREAMS
from hzlm.data.indexed import IndexedReader
from hzlm.data.indexed_layout import bin_path
from hzlm.data.indexed_streams import are_given, are_targets, are_toned
from hzlm.data.marks import MARK_FOLLOWS, MOST_SECOND, SECOND_SHIFT
from hzlm.pinyin import TONED_SYLLABLES
from hzlm.progress import Progress
from hzlm.vocabulary import Vocabulary

_SENTENCES = 1 << 14
"""Looked at at once."""


@dataclass
class _Fault:
    """A kind of fault: in how many positions, and the first of them."""

    count: int
    sentence: int
    position: int


class IdChecker:
    """Checks streams against a vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        # By hanzi id, then by tone and syllable; rows of ids that are no targets stay empty.
        self._is_known = np.zeros((vocabulary.size, len(TONED_SYLLABLES)), np.bool_)
        for hanzi, counts in vocabulary.readings.items():
            ids = [vocabulary.id_of(f"syl:{reading}") for reading in counts]
            self._is_known[vocabulary.id_of(f"lit:{hanzi}"), np.array(ids) - vocabulary.toned_start] = True
        self._is_known[vocabulary.unknown_id] = True
        readings = np.minimum(self._is_known.sum(axis=1), MOST_SECOND)
        readings[vocabulary.unknown_id] = 0
        self._readings = readings

    def check(self, readers: Mapping[str, IndexedReader], is_pairs: bool, bar: Progress) -> Iterator[str]:
        """Looks at aligned streams whole, in constant memory.

        Args:
            readers: by the names of `hzlm.data.dataset.STREAMS`.
            is_pairs: the readings are given sources.
            bar: advanced by one for each sentence.

        Returns:
            A line for each kind of fault: the file, what is wrong, how often, and where first.
        """
        index = readers["hanzi"]
        judge = self._judge_pairs if is_pairs else self._judge
        faults: dict[tuple[str, str], _Fault] = {}
        for start in range(0, len(index), _SENTENCES):
            end = min(start + _SENTENCES, len(index))
            places = slice(index.place(start), index.place(end))
            lengths = index.lengths[start:end].astype(np.int64)
            firsts = np.cumsum(lengths) - lengths
            hanzi, reading, marks = (readers[stream].numbers[places] for stream in STREAMS)
            for kind, is_wrong in judge(hanzi, reading, marks, firsts[lengths > 0]).items():
                wrong = np.flatnonzero(is_wrong)
                if len(wrong) and kind in faults:
                    faults[kind].count += len(wrong)
                elif len(wrong):
                    sentence = int(np.searchsorted(firsts, wrong[0], side="right")) - 1
                    faults[kind] = _Fault(len(wrong), start + sentence, int(wrong[0] - firsts[sentence]))
            for reader in readers.values():
                reader.release()
            bar.advance(end - start)
        for (stream, what), fault in faults.items():
            where = f"the first in sentence {fault.sentence}, position {fault.position}"
            yield f"{bin_path(readers[stream].prefix)}: {fault.count:,} {what}, {where}; prepare the dataset again"

    def _judge(
        self,
        hanzi: npt.NDArray[np.integer],
        reading: npt.NDArray[np.integer],
        marks: npt.NDArray[np.uint8],
        firsts: npt.NDArray[np.int64],
    ) -> dict[tuple[str, str], npt.NDArray[np.bool_]]:
        """(stream, what is wrong) -> bool [N], where. firsts: the places at which sentences begin."""
        vocabulary = self.vocabulary
        is_target, is_toned = are_targets(hanzi, vocabulary), are_toned(reading, vocabulary)
        known_hanzi = np.where(is_target, hanzi, vocabulary.pad_id)
        toned = np.where(is_toned, reading, vocabulary.toned_start) - np.int64(vocabulary.toned_start)
        is_follower = marks & MARK_FOLLOWS > 0
        is_follower[firsts] = False
        return {
            ("hanzi", "ids that are no targets of the vocabulary"): ~is_target,
            ("reading", "ids that are neither syllables nor the character itself"): ~is_toned & (reading != hanzi),
            ("reading", "readings that the vocabulary does not know of their hanzi"): is_target
            & is_toned
            & ~self._is_known[known_hanzi, toned],
            ("marks", "second readings that their hanzi does not have"): is_target
            & (marks >> SECOND_SHIFT > self._readings[known_hanzi]),
            ("marks", "marks of following sentences inside a sentence"): is_follower,
        }

    def _judge_pairs(
        self,
        hanzi: npt.NDArray[np.integer],
        reading: npt.NDArray[np.integer],
        marks: npt.NDArray[np.uint8],
        firsts: npt.NDArray[np.int64],
    ) -> dict[tuple[str, str], npt.NDArray[np.bool_]]:
        """As `_judge`, of pairs."""
        return {
            ("hanzi", "ids that are no targets of the vocabulary"): ~are_targets(hanzi, self.vocabulary),
            ("reading", "ids that no given source has"): ~are_given(reading, self.vocabulary),
            ("marks", "marks, of which pairs have none"): marks > 0,
        }
