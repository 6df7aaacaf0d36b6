"""Annotated sentences on disk, between the pass that reads the text and the one that knows the vocabulary."""

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hzlm.data.indexed import IndexedReader, IndexedWriter
from hzlm.tools.annotate import Annotation


@dataclass(frozen=True)
class Spool:
    """The sentences of one split; the three streams are aligned."""

    codes: IndexedReader
    """int32, code points of the characters."""
    readings: IndexedReader
    """int16, `Annotation.readings`."""
    word_starts: IndexedReader
    """uint8, `Annotation.word_starts`."""
    sources: "array[int]"
    """For each sentence, the ordinal of the file that it came from."""

    def __len__(self) -> int:
        """How many sentences there are."""
        return len(self.codes)


class SpoolWriter:
    """Collects the sentences of one split in files of a scratch folder."""

    def __init__(self, folder: Path, split: str) -> None:
        self._prefixes = [folder / f"{split}.{stream}" for stream in ("codes", "readings", "word_starts")]
        self._writers = [
            IndexedWriter(prefix, dtype)
            for prefix, dtype in zip(self._prefixes, (np.int32, np.int16, np.uint8), strict=True)
        ]
        self._sources = array("l")

    def add(self, sentence: str, annotation: Annotation, source: int) -> None:
        """Appends one sentence."""
        codes = np.frombuffer(sentence.encode("utf-32-le"), "<i4")
        for writer, stream in zip(self._writers, (codes, annotation.readings, annotation.word_starts), strict=True):
            writer.add(stream)
        self._sources.append(source)

    def end_document(self) -> None:
        """The sentences added since the last call are one document."""
        for writer in self._writers:
            writer.end_document()

    def finish(self) -> Spool:
        """Completes the files and opens them."""
        for writer in self._writers:
            writer.finish()
        codes, readings, word_starts = map(IndexedReader, self._prefixes)
        return Spool(codes, readings, word_starts, self._sources)
