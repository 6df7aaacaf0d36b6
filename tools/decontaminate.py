"""Training sentences that stand in test files: found, so that no test asks for what was learned by heart."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hzlm.errors import UserError
from hzlm.pinyin import HANZI_RANGES
from hzlm.settings import Section
from hzlm.stored_json import parse_json
from hzlm.tools.duplicates.hanzi import (
    Windows,
    are_hanzi,
    blocks,
    boundaries,
    code_points,
    hash_windows,
    lengths_of,
    ngrams,
    project,
)

CLEAN = -1
"""In place of the number of a test file, for a sentence that stands in none."""

_BLOCK_CHARACTERS = 1 << 17
_HANZI = re.compile(f"[{HANZI_RANGES}]")
_REMEDY = "repair it or take it out of the test files"


class DecontaminateConfig(Section):
    """Which text is kept out of the training text."""

    files: tuple[Path, ...] = ()
    """Test files: JSON lines (.jsonl, .json), or text in columns parted by tabs; all that holds hanzi counts."""
    ngram: Annotated[int, Field(gt=1, le=64)] = 13
    """Hanzi in a row that take a sentence out when they also stand in a test file. Eight or ten are often common to two
    texts by chance (titles, set phrases), thirteen seldom."""
    shortest: Annotated[int, Field(gt=0, le=64)] = 8
    """Hanzi of the shortest test text that takes sentences out. One of fewer than `ngram` does so where it stands
    between punctuation; what is shorter than this, everybody says (在这种情况下), and a model has to know it."""


class TestSet:
    """The text of test files, to be found in other text."""

    def __init__(self, texts: Sequence[Sequence[str]], ngram: int, shortest: int) -> None:
        """Indexes the n-grams of hanzi of each text, or a text that has fewer hanzi as a whole.

        Args:
            texts: of test file 0, 1, ...
            ngram: as in `DecontaminateConfig`.
            shortest: as in `DecontaminateConfig`.
        """
        hanzi = project([text for file in texts for text in file], fewest=0)
        windows, first = ngrams(hanzi.starts, ngram)
        text_files = np.repeat(np.arange(len(texts), dtype=np.int32), [len(file) for file in texts])
        window_files = np.repeat(text_files, np.diff(first))
        long_enough = windows.ends - windows.starts >= min(shortest, ngram)
        self._index = _Index(
            hanzi.codes, Windows(windows.starts[long_enough], windows.ends[long_enough]), window_files[long_enough]
        )
        self._ngram = ngram
        # What is neither letter nor digit parts clauses; beyond U+FFFF whatever is no hanzi does.
        self._parting = np.array([not chr(code).isalnum() for code in range(1 << 16)])

    @classmethod
    def load(cls, config: DecontaminateConfig) -> "TestSet":
        """The test set of the files that a config names.

        Raises:
            UserError: a file cannot be read, is no UTF-8 text or no JSON, or holds no hanzi.
        """
        return cls([read_test_file(path) for path in config.files], config.ngram, config.shortest)

    def find_files(self, documents: Sequence[Sequence[str]]) -> NDArray[np.int32]:
        """In which test file each sentence stands; the first of several.

        A sentence stands in one if one of its hanzi is part of `ngram` in a row, also across sentences of its document,
        that stand in a text of that file; or part of a text of `shortest` to `ngram` - 1 hanzi, all of which stands in
        the document, from the beginning of a clause to the end of one. Clauses end at the borders of sentences and at
        all that is neither letter nor digit. Only hanzi are compared.

        Args:
            documents: the consecutive sentences of each; S in all.

        Returns:
            int32 [S], the number of the file or `CLEAN`.
        """
        sizes = (sum(map(len, sentences)) for sentences in documents)
        found = map(self._find_in_block, blocks(documents, sizes, _BLOCK_CHARACTERS))
        return np.concatenate([np.empty(0, np.int32), *found])

    def _find_in_block(self, documents: Sequence[Sequence[str]]) -> NDArray[np.int32]:
        sentences = [sentence for document in documents for sentence in document]
        codes = code_points("".join(sentences))
        kept = are_hanzi(codes)
        hanzi_before = boundaries(kept)
        sentence_starts = hanzi_before[boundaries(lengths_of(sentences))]
        document_starts = sentence_starts[boundaries(lengths_of(documents))]
        parting = self._parting[np.minimum(codes, len(self._parting) - 1)] & ~kept
        is_border = np.zeros(hanzi_before[-1] + 1, np.bool_)
        is_border[hanzi_before[:-1][parting]] = True
        is_border[sentence_starts] = True
        windows = _concatenate(
            ngrams(document_starts, self._ngram)[0],
            *_clauses(np.flatnonzero(is_border), document_starts, self._ngram),
        )
        hits, files = self._index.look_up(codes[kept], windows)
        sentence_of = np.repeat(np.arange(len(sentences)), np.diff(sentence_starts))
        found = np.full(len(sentences), np.iinfo(np.int32).max, np.int32)
        for offset in range(self._ngram):
            places = hits.starts + offset
            inside = places < hits.ends
            np.minimum.at(found, sentence_of[places[inside]], files[inside])
        found[found == np.iinfo(np.int32).max] = CLEAN
        return found


class _Index:
    """Windows of test text by their hashes, each with the number of the first file that has it."""

    # slots for each window; so most hashes of other text meet an empty one, without a search
    _SLOTS = 16

    def __init__(self, codes: NDArray[np.uint32], windows: Windows, files: NDArray[np.int32]) -> None:
        self._codes = codes
        # Of different windows with one 64-bit hash only the first is kept: among 10^7 that is one in 400,000 indexes.
        self._hashes, places = np.unique(hash_windows(codes, windows), return_index=True)
        self._windows = Windows(windows.starts[places], windows.ends[places])
        self._files = files[places]
        bits = (self._SLOTS * len(self._hashes) + 1).bit_length()
        self._shift = np.uint64(64 - bits)
        self._taken = np.zeros(1 << bits, np.bool_)
        self._taken[self._hashes >> self._shift] = True

    def look_up(self, codes: NDArray[np.uint32], windows: Windows) -> tuple[Windows, NDArray[np.int32]]:
        """Those windows of `codes` that are in the index, and for each of them the number of the file."""
        hashes = hash_windows(codes, windows)
        possible = np.flatnonzero(self._taken[hashes >> self._shift])
        places = np.searchsorted(self._hashes, hashes[possible])
        places[places == len(self._hashes)] = 0
        same = self._hashes[places] == hashes[possible] if len(self._hashes) else np.zeros(0, np.bool_)
        possible, places = possible[same], places[same]
        hits = Windows(windows.starts[possible], windows.ends[possible])
        indexed = Windows(self._windows.starts[places], self._windows.ends[places])
        equal = _equal(codes, hits, self._codes, indexed)
        return Windows(hits.starts[equal], hits.ends[equal]), self._files[places[equal]]


def read_test_file(path: Path) -> list[str]:
    """The texts of a test file that hold hanzi: columns of its lines, or the strings in its lines of JSON.

    Raises:
        UserError: it cannot be read, is no UTF-8 text or no JSON, or holds no hanzi; the text names the file.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"{path}: cannot read this test file: {error.strerror}; {_REMEDY}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is no UTF-8 text; {_REMEDY}") from error
    texts: list[str] = []
    for number, line in enumerate(lines, start=1):
        if path.suffix not in (".jsonl", ".json"):
            texts += line.split("\t")
        elif line.strip():
            try:
                texts += _strings(parse_json(line))
            except ValueError as error:
                reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                raise UserError(f"{path}, line {number}: no JSON ({reason}); {_REMEDY}") from error
    texts = [text for text in texts if _HANZI.search(text)]
    if not texts:
        raise UserError(f"{path}: no hanzi in this test file; {_REMEDY}")
    return texts


def _strings(value: Any) -> Iterator[str]:
    """All strings in a value of JSON, without the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _clauses(borders: NDArray[np.int64], document_starts: NDArray[np.int64], ngram: int) -> Iterator[Windows]:
    """The runs of whole clauses of a document that have fewer than `ngram` hanzi together.

    Args:
        borders: [clauses + 1], where clauses begin; the last one is the end of the text.
        document_starts: [documents + 1].
        ngram: more hanzi than a run may have.

    Yields:
        the runs of one clause, of two, ...
    """
    ends_of_documents = document_starts[np.searchsorted(document_starts, borders[:-1], side="right")]
    limits = np.minimum(ends_of_documents, borders[:-1] + ngram - 1)
    for count in range(1, min(ngram, len(borders))):
        starts, ends = borders[:-count], borders[count:]
        short = ends <= limits[: len(starts)]
        if not short.any():
            return
        yield Windows(starts[short], ends[short])


def _concatenate(*windows: Windows) -> Windows:
    return Windows(np.concatenate([part.starts for part in windows]), np.concatenate([part.ends for part in windows]))


def _equal(
    codes: NDArray[np.uint32], windows: Windows, other_codes: NDArray[np.uint32], others: Windows
) -> NDArray[np.bool_]:
    """Which windows hold the same code points as the others, pair by pair: [windows] and [windows] -> [windows]."""
    lengths = windows.ends - windows.starts
    equal = lengths == others.ends - others.starts
    for offset in range(int(lengths.max(initial=0))):
        pairs = np.flatnonzero(equal & (offset < lengths))
        equal[pairs] = codes[windows.starts[pairs] + offset] == other_codes[others.starts[pairs] + offset]
    return equal
