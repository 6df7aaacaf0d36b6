"""A dataset folder: for each split three aligned streams of ids, and a sidecar that vouches for them.

    vocabulary.json
    {train,dev,test}.{hanzi,reading,marks}.{bin,idx}    one sequence a sentence, one number a character
    {train,dev,test}.json                               sidecar: sizes, checksums, counts, vocabulary fingerprint

`hzlm prepare` adds report.json and, of the held-out splits, dev.tsv and test.tsv.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hzlm.data.indexed import IndexedReader, IndexedWriter, bin_path, idx_path
from hzlm.errors import UserError
from hzlm.stored_files import damage_of, describe_file
from hzlm.stored_json import load_json
from hzlm.vocabulary import Vocabulary

SPLITS = ("train", "dev", "test")
STREAMS = ("hanzi", "reading", "marks")
VOCABULARY_FILE = "vocabulary.json"

MARK_WORD_START = 1
"""Bit of `Record.marks`: a word begins here."""
MARK_AMBIGUOUS = 2
"""Bit of `Record.marks`: training text shows the hanzi with more than one reading."""

FORMAT = "hzlm-dataset"
VERSION = 1


@dataclass(frozen=True)
class Record:
    """One sentence of N characters."""

    hanzi: npt.NDArray[np.int32]
    """int32 [N], target ids; [UNK] for a character outside the vocabulary."""
    reading: npt.NDArray[np.int32]
    """int32 [N], toned syllable ids; a character without a reading carries its id in `hanzi`."""
    marks: npt.NDArray[np.uint8]
    """uint8 [N], the bits MARK_*."""


class SplitWriter:
    """Writes one split of a dataset: its streams, and with `finish` its sidecar.

    As a context manager it leaves no partial file behind when its block fails.
    """

    def __init__(self, folder: Path, split: str, vocabulary: Vocabulary) -> None:
        self._folder = folder
        self._split = split
        self._fingerprint = vocabulary.fingerprint
        id_dtype = np.uint16 if vocabulary.size <= 2**16 else np.int32
        self._streams = {
            stream: IndexedWriter(_prefix(folder, split, stream), np.uint8 if stream == "marks" else id_dtype)
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

    def end_document(self) -> None:
        """The sentences added since the last call are one document."""
        for writer in self._streams.values():
            writer.end_document()

    def finish(self) -> None:
        """Completes the streams and writes the sidecar."""
        for writer in self._streams.values():
            writer.finish()
        prefixes = [_prefix(self._folder, self._split, stream) for stream in STREAMS]
        paths = [path_of(prefix) for prefix in prefixes for path_of in (bin_path, idx_path)]
        sidecar = {
            "format": FORMAT,
            "version": VERSION,
            "split": self._split,
            "sequences": self._sequences,
            "positions": self._positions,
            "vocabulary": self._fingerprint,
            "files": {path.name: describe_file(path) for path in paths},
        }
        text = json.dumps(sidecar, indent=2) + "\n"
        _sidecar_path(self._folder, self._split).write_text(text, encoding="utf-8")

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
        self._hanzi, self._reading, self._marks = (streams[stream] for stream in STREAMS)

    @classmethod
    def open(cls, folder: Path, split: str) -> Self:
        """Opens a split after checking sizes, checksums, vocabulary and that the streams are aligned.

        Raises:
            UserError: something is missing, damaged or does not fit; the text names the file.
        """
        if not folder.is_dir():
            raise UserError(f"{folder}: no such dataset folder; make one with hzlm prepare")
        info = _read_sidecar(folder, split)
        for name, expected in info["files"].items():
            damage = damage_of(folder / name, expected)
            if damage is not None:
                raise UserError(f"{folder / name}: {damage}; prepare the dataset again")
        vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
        if vocabulary.fingerprint != info["vocabulary"]:
            raise UserError(f"{folder / VOCABULARY_FILE}: not the vocabulary that this dataset was made with")
        streams = {stream: IndexedReader(_prefix(folder, split, stream)) for stream in STREAMS}
        for name, reader in streams.items():
            if not np.array_equal(reader.lengths, streams["hanzi"].lengths):
                raise UserError(f"{idx_path(_prefix(folder, split, name))}: its lengths are not those of the hanzi")
        lengths = streams["hanzi"].lengths
        if [info["sequences"], info["positions"]] != [len(lengths), lengths.sum(dtype=np.int64)]:
            path = _sidecar_path(folder, split)
            raise UserError(f"{path}: this file is damaged: its counts are not its streams'; prepare the dataset again")
        return cls(folder, split, info, vocabulary, streams)

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """int32 [S], characters in each sentence."""
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
        """Sentence `index`."""
        return Record(
            self._hanzi[index].astype(np.int32), self._reading[index].astype(np.int32), self._marks[index].copy()
        )


def _prefix(folder: Path, split: str, stream: str) -> Path:
    return folder / f"{split}.{stream}"


def _sidecar_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.json"


def _read_sidecar(folder: Path, split: str) -> dict[str, Any]:
    """The sidecar, once it is known to name exactly the files of its split."""
    path = _sidecar_path(folder, split)
    info = load_json(path, "prepare the dataset again")
    if not isinstance(info, dict) or info.get("format") != FORMAT or info.get("version") != VERSION:
        raise UserError(f"{path}: no sidecar of version {VERSION} of {FORMAT}; prepare the dataset again")
    names = {f"{split}.{stream}.{ending}" for stream in STREAMS for ending in ("bin", "idx")}
    files = info.get("files")
    complete = (
        isinstance(files, dict)
        and files.keys() == names
        and all(isinstance(file, dict) and file.keys() == {"bytes", "sha256"} for file in files.values())
        and {"sequences", "positions", "vocabulary"} <= info.keys()
        and info.get("split") == split
    )
    if not complete:
        raise UserError(f"{path}: this file is damaged: entries are missing or wrong; prepare the dataset again")
    return info
