"""The first pass over a corpus: texts -> annotated sentences, parted into splits."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hzlm.data.dataset import SPLITS
from hzlm.pinyin import HANZI_RANGES
from hzlm.progress import Progress
from hzlm.tools.annotate import Annotation, Annotator
from hzlm.tools.clean import Cleaner
from hzlm.tools.read import read_texts
from hzlm.tools.report import Report
from hzlm.tools.split import Unit, split_text
from hzlm.tools.spool import Spool, SpoolWriter

TOO_LONG = "too long, and nowhere to cut"
NO_HANZI = "no hanzi"
DUPLICATE = "duplicate"
NOT_ALIGNED = "a hanzi has no reading"

_HANZI = re.compile(f"[{HANZI_RANGES}]")
_DIGEST_BYTES = 16


class SentenceSelector:
    """Texts -> the sentences worth keeping. It remembers every sentence (16 bytes of each) to tell duplicates.

    Args:
        unit: what a sample is.
        max_length: of a sample, in characters.
        report: where what is dropped is counted.
    """

    def __init__(self, unit: Unit, max_length: int, report: Report) -> None:
        self._unit = unit
        self._max_length = max_length
        self._report = report
        self._cleaner = Cleaner()
        self._annotator = Annotator()
        self._seen: set[bytes] = set()
        self.characters = 0
        """Characters in all sentences so far, kept or dropped."""

    def select(self, text: str) -> Iterator[tuple[str, Annotation, str]]:
        """Yields (sentence, annotation, split) for each sentence of the text that is kept."""
        for sentence in split_text(self._cleaner.clean(text), self._unit, self._max_length):
            self.characters += len(sentence)
            digest = hashlib.sha256(sentence.encode()).digest()
            annotation = None
            if len(sentence) > self._max_length:
                cause = TOO_LONG
            elif not _HANZI.search(sentence):
                cause = NO_HANZI
            elif digest[:_DIGEST_BYTES] in self._seen:
                cause = DUPLICATE
            else:
                cause = NOT_ALIGNED
                self._seen.add(digest[:_DIGEST_BYTES])
                annotation = self._annotator.annotate(sentence)
            if annotation is None:
                self._report.drop(cause, len(sentence))
            else:
                yield sentence, annotation, split_of(digest)


def split_of(digest: bytes) -> str:
    """The split of a sentence, by its SHA-256 alone: about 3 % go to test and 1 % to dev."""
    percentile = int(digest.hex()[:8], 16) % 100
    return "test" if percentile >= 97 else "dev" if percentile == 96 else "train"


def collect(files: Sequence[Path], scratch: Path, unit: Unit, max_length: int, report: Report) -> dict[str, Spool]:
    """Reads and annotates the files; fills in what `report` says of reading and dropping.

    A text, which is a line or a JSON record, is a document: its sentences stay neighbours within each split.

    Args:
        files: the files, in order.
        scratch: folder for the spools; it must outlive them.
        unit: what a sample is.
        max_length: of a sample, in characters.
        report: `files`, `removed` and `dropped` are filled in.

    Returns:
        a spool for each split.

    Raises:
        UserError: a file cannot be read as text.
    """
    selector = SentenceSelector(unit, max_length, report)
    writers = {split: SpoolWriter(scratch, split) for split in SPLITS}
    with Progress(sum(path.stat().st_size for path in files), "reading", "bytes") as bar:
        for source, path in enumerate(files):
            characters = 0
            for text in read_texts(path, bar.advance):
                characters += len(text)
                for sentence, annotation, split in selector.select(text):
                    writers[split].add(sentence, annotation, source)
                for writer in writers.values():
                    writer.end_document()
            report.files[str(path)] = characters
    report.removed = report.characters - selector.characters
    return {split: writer.finish() for split, writer in writers.items()}
