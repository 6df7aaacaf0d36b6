"""Annotated sentences -> the streams of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from hzlm.data.marks import MARK_AMBIGUOUS, MARK_FOLLOWS, MARK_WORD_START, SecondReadings
from hzlm.pieces import NEVER_BYTES, RUN
from hzlm.pinyin import TONED_SYLLABLES
from hzlm.vocabulary import Vocabulary

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_CODE_POINTS = 0x110000
_CACHED_SPANS = 1 << 16
_ANY_READING, _NO_READING, _FIRST_HANZI = range(3)
_WHOLE, _RUN, _BYTES = range(3)


@dataclass(frozen=True)
class Encoded:
    """The K of S sentences that are kept, one after the other, P positions in all."""

    hanzi: npt.NDArray[np.int32]
    """int32 [P], target ids; [UNK] for a hanzi outside the vocabulary."""
    reading: npt.NDArray[np.int32]
    """int32 [P], toned syllable ids; what has no reading carries its id in `hanzi`."""
    marks: npt.NDArray[np.uint8]
    """uint8 [P], as in `hzlm.data.marks`."""
    lengths: npt.NDArray[np.int32]
    """int32 [K], positions of each."""
    kept: Bools
    """bool [S]; left out is what the vocabulary lacks a reading for, of a hanzi that it holds, and what is too long."""
    too_long: Bools
    """bool [S], left out for having more positions than a record may; only bytes make more of them than characters."""


@dataclass(frozen=True)
class _Spans:
    """What is no single position: M runs, and characters that become bytes; of Q positions in all."""

    first: Ints
    """int64 [M], the first character of each."""
    counts: Ints
    """int64 [M], positions of each."""
    ids: npt.NDArray[np.int32]
    """int32 [Q]."""
    places: Ints
    """int64 [Q], which character of its span a piece or byte begins with."""
    inside: Bools
    """bool [N], the characters of all spans."""


class SentenceEncoder:
    """Turns annotated sentences into the streams of one vocabulary, many at once and by table look-up."""

    def __init__(self, vocabulary: Vocabulary, max_length: int) -> None:
        """`max_length`: of a record, in positions."""
        self.vocabulary = vocabulary
        self._max_length = max_length
        self._seconds = SecondReadings(vocabulary)
        self._cut = lru_cache(_CACHED_SPANS)(self._cut_uncached)
        known = [ord(character) for character in vocabulary.characters]
        self._id_of_code = np.full(_CODE_POINTS, vocabulary.unknown_id, np.int32)
        self._id_of_code[known] = vocabulary.target_start + np.arange(len(known))
        self._kind_of_code = None if vocabulary.pieces is None else _kinds(known)
        # which readings each character may have: rows of _is_allowed, whose columns are 1 + reading
        self._row_of_code = np.full(_CODE_POINTS, _ANY_READING, np.int64)
        self._row_of_code[known] = _NO_READING
        if self._kind_of_code is not None:
            self._row_of_code[self._kind_of_code != _WHOLE] = _NO_READING
        self._is_allowed = np.zeros((_FIRST_HANZI + len(vocabulary.readings), 1 + len(TONED_SYLLABLES)), np.bool_)
        self._is_allowed[:, 0] = self._is_allowed[_ANY_READING] = True
        self._is_ambiguous = np.zeros(vocabulary.size, np.bool_)
        column = {reading: 1 + index for index, reading in enumerate(TONED_SYLLABLES)}
        for row, (hanzi, counts) in enumerate(vocabulary.readings.items(), start=_FIRST_HANZI):
            self._row_of_code[ord(hanzi)] = row
            self._is_allowed[row, [column[reading] for reading in counts]] = True
            self._is_ambiguous[self._id_of_code[ord(hanzi)]] = sum(count > 0 for count in counts.values()) > 1

    def encode(
        self,
        codes: npt.NDArray[np.integer],
        readings: npt.NDArray[np.int16],
        word_starts: npt.NDArray[np.uint8 | np.bool_],
        second: npt.NDArray[np.int16],
        lengths: npt.NDArray[np.integer],
        follows: Bools,
    ) -> Encoded:
        """Encodes S sentences of N characters in all.

        A hanzi outside the vocabulary is [UNK] and keeps its reading, for that is what people type. The sentence behind
        one that is left out follows none; the first one is taken at its word.

        Args:
            codes: [N], code points.
            readings: [N], index in TONED_SYLLABLES, -1 for none.
            word_starts: [N], whether a word begins there.
            second: [N], what another reader says where it differs, as in `readings`; else -1.
            lengths: [S], characters of each sentence.
            follows: [S], whether the sentence right before it in the text is the one before it here.
        """
        is_read = readings >= 0
        hanzi = self._id_of_code[codes]
        reading = np.where(is_read, readings + np.int32(self.vocabulary.toned_start), hanzi)
        marks = word_starts.astype(np.uint8) * np.uint8(MARK_WORD_START)
        marks += (self._is_ambiguous[hanzi] & is_read) * np.uint8(MARK_AMBIGUOUS)
        places = np.flatnonzero(second >= 0)
        other = self.vocabulary.toned_start + second[places].astype(np.int32)
        marks[places] += self._seconds.to_marks(hanzi[places], other)
        ends = np.cumsum(lengths, dtype=np.int64)
        refused = np.flatnonzero(~self._is_allowed[self._row_of_code[codes], readings + np.int64(1)])
        kept = np.ones(len(lengths), np.bool_)
        kept[np.searchsorted(ends, refused, side="right")] = False
        if self._kind_of_code is not None:
            spans = self._find_spans(codes, self._kind_of_code[codes], ends)
            hanzi, reading, marks, lengths = _insert(spans, hanzi, reading, marks, ends)
        too_long = lengths > self._max_length
        kept &= ~too_long
        stays = np.repeat(kept, lengths)
        if not stays.all():
            hanzi, reading, marks = hanzi[stays], reading[stays], marks[stays]
        after_kept = np.concatenate([np.ones(min(1, len(kept)), np.bool_), kept[:-1]])
        positions = lengths[kept].astype(np.int32)
        begins = (np.cumsum(positions, dtype=np.int64) - positions)[(follows & after_kept)[kept] & (positions > 0)]
        marks[begins] += np.uint8(MARK_FOLLOWS)
        return Encoded(hanzi, reading, marks, positions, kept, too_long)

    def _find_spans(self, codes: npt.NDArray[np.integer], kinds: npt.NDArray[np.uint8], ends: Ints) -> _Spans:
        """The spans of sentences that end at `ends` [S], whose characters are of these kinds."""
        inside = kinds != _WHOLE
        begins = inside.copy()
        begins[1:] &= (kinds[1:] == _BYTES) | (kinds[:-1] != _RUN)
        starts = ends[:-1][ends[:-1] < len(codes)]
        begins[starts] = inside[starts]
        first = np.flatnonzero(begins)
        text = codes[inside].astype("<u4").tobytes().decode("utf-32-le")
        bounds = [*(np.cumsum(inside)[first] - 1).tolist(), len(text)]
        cuts = [self._cut(text[start:end]) for start, end in pairwise(bounds)]
        return _Spans(
            first=first,
            counts=np.array([len(ids) for ids, _ in cuts], np.int64),
            ids=np.array([token_id for ids, _ in cuts for token_id in ids], np.int32),
            places=np.array([place for _, places in cuts for place in places], np.int64),
            inside=inside,
        )

    def _cut_uncached(self, span: str) -> tuple[Sequence[int], Sequence[int]]:
        """The ids of a span, and which of its characters each begins with."""
        widths = map(len, self.vocabulary.cut(span))
        return self.vocabulary.encode(span).tolist(), [0, *accumulate(widths)][:-1]


def _insert(
    spans: _Spans,
    hanzi: npt.NDArray[np.int32],
    reading: npt.NDArray[np.int32],
    marks: npt.NDArray[np.uint8],
    ends: Ints,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.uint8], Ints]:
    """The streams and lengths of characters as those of positions. A position has the marks of its first character."""
    widths = (~spans.inside).astype(np.int64)
    widths[spans.first] = spans.counts
    filled = np.concatenate([[0], np.cumsum(widths)])
    origin = np.repeat(np.arange(len(widths)), widths)
    before = np.cumsum(spans.counts) - spans.counts
    places = np.repeat(filled[spans.first] - before, spans.counts) + np.arange(len(spans.ids))
    origin[places] += spans.places
    hanzi, reading, marks = hanzi[origin], reading[origin], marks[origin]
    hanzi[places] = reading[places] = spans.ids
    # the bytes of a character behind its first one
    marks[1:][origin[1:] == origin[:-1]] = 0
    return hanzi, reading, marks, np.diff(filled[ends], prepend=0)


def _kinds(known: Sequence[int]) -> npt.NDArray[np.uint8]:
    """uint8 [code points]: _RUN for letters and digits, _BYTES for what is neither hanzi nor known, else _WHOLE."""
    every = "".join(map(chr, range(_CODE_POINTS)))
    kinds = np.full(_CODE_POINTS, _BYTES, np.uint8)
    kinds[known] = _WHOLE
    for pattern, kind in ((NEVER_BYTES, _WHOLE), (RUN, _RUN)):
        for match in pattern.finditer(every):
            kinds[match.start() : match.end()] = kind
    return kinds
