"""A dataset folder: for each split three aligned streams of ids, and a sidecar that vouches for them.

    vocabulary.json
    {train,dev,test}.{hanzi,reading,marks}.{bin,idx}    one sequence a sentence, one number a position
    {train,dev,test}.json                               sidecar: sizes, checksums, counts, vocabulary fingerprint

`hzlm prepare` adds report.json and, of the held-out splits, dev.tsv and test.tsv. `hzlm pairs` makes datasets of pairs,
whose sidecars say "source": "given": their readings are sources as somebody gave them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hzlm.data.indexed import IndexedReader, IndexedWriter
from hzlm.data.indexed_layout import bin_path, idx_path
from hzlm.data.indexed_streams import check_streams, id_dtype
from hzlm.errors import UserError
from hzlm.stored_files import describe_file, replacing
from hzlm.stored_json import load_json
from hzlm.vocabulary import Vocabulary

SPLITS = ("train", "dev", "test")
STREAMS = ("hanzi", "reading", "marks")
VOCABULARY_FILE = "vocabulary.json"

FORMAT = "hzlm-dataset"
VERSION = 2
ANNOTATED, GIVEN = "annotated", "given"
"""What a sidecar may have as "source"; none means ANNOTATED."""


@dataclass(frozen=True)
class Record:
    """One sentence of N positions, each a character, or with pieces also a piece or a byte."""

    hanzi: npt.NDArray[np.int32]
    """int32 [N], target ids; [UNK] for a character outside the vocabulary."""
    reading: npt.NDArray[np.int32]
    """int32 [N], toned syllable ids; what has no reading carries its id in `hanzi`. Of a pair: the given source."""
    marks: npt.NDArray[np.uint8]
    """uint8 [N], as `hzlm.data.marks` says."""


class SplitWriter:
    """Writes one split of a dataset: its streams, and with `finish` its sidecar.

    As a context manager it leaves no partial file behind when its block fails. With `is_pairs` the readings are given
    sources.
    """

    def __init__(self, folder: Path, split: str, vocabulary: Vocabulary, is_pairs: bool = False) -> None:
        self._folder = folder
        self._split = split
        self._source = {"source": GIVEN} if is_pairs else {}
        self._fingerprint = vocabulary.fingerprint
        ids = id_dtype(vocabulary)
        self._streams = {
            stream: IndexedWriter(stream_prefix(folder, split, stream), np.uint8 if stream == "marks" else ids)
            for stream in STREAMS
        }
        self._sequences = 0
        self._positions = 0

    def add(self, record: Record) -> None:
        """Appends one sentence. Raises `ValueError` where its streams are not equally long."""
        if not len(record.hanzi) == len(record.reading) == len(record.marks):
            raise ValueError(f"streams of {len(record.hanzi)}, {len(record.reading)} and {len(record.marks)} positions")
        self._streams["hanzi"].add(record.hanzi)
        self._streams["reading"].add(record.reading)
        self._streams["marks"].add(record.marks)
        self._sequences += 1
        self._positions += len(record.hanzi)

    def add_many(
        self, record: Record, lengths: npt.NDArray[np.integer], ends: Sequence[int] | npt.NDArray[np.integer] = ()
    ) -> None:
        """Appends many sentences at once.

        Args:
            record: the sentences, one after the other.
            lengths: int [S], the positions in each of them.
            ends: int [E], ascending, 0 to S: a document ends after so many of these sentences.

        Raises:
            ValueError: a stream is not as long as the lengths together, or the ends are not of these sentences.
        """
        for stream, writer in self._streams.items():
            writer.add_many(getattr(record, stream), lengths, ends)
        self._sequences += len(lengths)
        self._positions += len(record.hanzi)

    def append(self, dataset: "Dataset", start: int = 0, end: int | None = None) -> None:
        """Appends the documents `start` to `end` of a dataset of the same kind and vocabulary (all of them)."""
        first, last = (dataset.documents.item(at) for at in (start, -1 if end is None else end))
        for stream, writer in self._streams.items():
            writer.append(dataset.streams[stream], start, end)
        self._sequences += last - first
        self._positions += dataset.streams["hanzi"].place(last) - dataset.streams["hanzi"].place(first)

    def end_document(self) -> None:
        """The sentences added since the last call are one document."""
        for writer in self._streams.values():
            writer.end_document()

    def finish(self) -> None:
        """Completes the streams and writes the sidecar."""
        for writer in self._streams.values():
            writer.finish()
        prefixes = [stream_prefix(self._folder, self._split, stream) for stream in STREAMS]
        paths = [path_of(prefix) for prefix in prefixes for path_of in (bin_path, idx_path)]
        sidecar = {
            "format": FORMAT,
            "version": VERSION,
            "split": self._split,
            **self._source,
            "sequences": self._sequences,
            "positions": self._positions,
            "vocabulary": self._fingerprint,
            "files": {path.name: describe_file(path) for path in paths},
        }
        with replacing(sidecar_path(self._folder, self._split)) as path:
            path.write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._streams.values():
            writer.__exit__(kind, error, trace)


class Dataset:
    """One split of a dataset folder, memory-mapped. `Dataset.open` makes one."""

    def __init__(
        self, folder: Path, split: str, info: dict[str, Any], vocabulary: Vocabulary, streams: dict[str, IndexedReader]
    ) -> None:
        self.folder = folder
        self.split = split
        self.info = info
        """The sidecar."""
        self.vocabulary = vocabulary
        self.streams = streams
        """By the names of STREAMS."""
        self._hanzi, self._reading, self._marks = (streams[stream] for stream in STREAMS)
        ids = np.arange(vocabulary.size, dtype=np.int32)
        # Looking ids up takes little longer than a copy, and refuses those outside; negative ones made positive, since
        # they would count from the end.
        is_unsigned = id_dtype(vocabulary).kind == "u"
        self._look_up = ids.take if is_unsigned else lambda stored: ids.take(stored.view(np.uint32))

    @classmethod
    def open(cls, folder: Path, split: str) -> Self:
        """Opens a split after checking sizes, vocabulary and, in some blocks, that the streams are aligned and the ids.

        What takes longer the larger the dataset is (checksums, every id) is left to `hzlm data check`.

        Raises:
            UserError: something is missing, damaged or does not fit; the text names the file.
        """
        if not folder.is_dir():
            raise UserError(f"{folder}: no such dataset folder; make one with hzlm prepare")
        info = read_sidecar(folder, split)
        for name, noted in info["files"].items():
            check_size(folder / name, noted["bytes"])
        vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
        if vocabulary.fingerprint != info["vocabulary"]:
            raise UserError(f"{folder / VOCABULARY_FILE}: not the vocabulary that this dataset was made with")
        streams = {stream: IndexedReader(stream_prefix(folder, split, stream)) for stream in STREAMS}
        check_streams(streams, vocabulary, holds_pairs(info))
        hanzi = streams["hanzi"]
        if [info["sequences"], info["positions"]] != [len(hanzi), len(hanzi.numbers)]:
            path = sidecar_path(folder, split)
            raise UserError(f"{path}: this file is damaged: its counts are not its streams'; prepare the dataset again")
        return cls(folder, split, info, vocabulary, streams)

    @property
    def is_pairs(self) -> bool:
        """Whether the readings are sources as they were given, in place of annotations."""
        return holds_pairs(self.info)

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """int32 [S], positions in each sentence."""
        return self._hanzi.lengths

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the sidecar: another text or another vocabulary has another one."""
        return hashlib.sha256(json.dumps(self.info, sort_keys=True).encode()).hexdigest()

    @property
    def documents(self) -> npt.NDArray[np.int64]:
        """int64 [D], the first sentence of each document, and S at the end."""
        return self._hanzi.documents

    def __len__(self) -> int:
        """How many sentences there are."""
        return len(self._hanzi)

    def record(self, index: int) -> Record:
        """Sentence `index`. Raises `UserError` where it holds ids outside the vocabulary; the text names the file."""
        try:
            return Record(
                self._look_up(self._hanzi[index]), self._look_up(self._reading[index]), self._marks[index].copy()
            )
        except IndexError as error:
            raise self._outside(index) or error from None

    def _outside(self, index: int) -> UserError | None:
        """What is wrong where sentence `index` holds ids outside the vocabulary; None where it holds none."""
        for reader in (self._hanzi, self._reading):
            ids = reader[index]
            if ((ids < 0) | (ids >= self.vocabulary.size)).any():
                what = f"sentence {index} holds ids outside the vocabulary: damaged"
                return UserError(f"{bin_path(reader.prefix)}: {what}; copy it again, or prepare the dataset again")
        return None


def stream_prefix(folder: Path, split: str, stream: str) -> Path:
    """The path of a stream's files without their endings."""
    return folder / f"{split}.{stream}"


def sidecar_path(folder: Path, split: str) -> Path:
    """The sidecar of a split."""
    return folder / f"{split}.json"


def holds_pairs(info: Mapping[str, Any]) -> bool:
    """Whether a sidecar is that of pairs."""
    return info.get("source") == GIVEN


def read_sidecar(folder: Path, split: str) -> dict[str, Any]:
    """The sidecar of a split, once it is known to name exactly the files of its split; else `UserError`."""
    path = sidecar_path(folder, split)
    info = load_json(path, "prepare the dataset again")
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise UserError(f"{path}: no sidecar of {FORMAT}; prepare the dataset again")
    if info.get("version") != VERSION:
        made = f"of version {info.get('version')}, but this program reads version {VERSION}"
        raise UserError(f"{path}: a dataset {made}; prepare the dataset again")
    names = {f"{split}.{stream}.{ending}" for stream in STREAMS for ending in ("bin", "idx")}
    files = info.get("files")
    complete = (
        isinstance(files, dict)
        and files.keys() == names
        and all(isinstance(file, dict) and file.keys() == {"bytes", "sha256"} for file in files.values())
        and {"sequences", "positions", "vocabulary"} <= info.keys()
        and info.get("split") == split
        and info.get("source", ANNOTATED) in (ANNOTATED, GIVEN)
    )
    if not complete:
        raise UserError(f"{path}: this file is damaged: entries are missing or wrong; prepare the dataset again")
    return info


def check_size(path: Path, size: int) -> None:
    """Raises `UserError` unless the file is there and holds so many bytes."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); prepare the dataset again") from error
    if found != size:
        raise UserError(f"{path}: holds {found} bytes instead of {size}: damaged; prepare the dataset again")
