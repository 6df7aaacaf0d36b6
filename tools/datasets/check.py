"""Whether a dataset is whole: every byte of it, and every number."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hzlm.data.dataset import SPLITS, STREAMS, VOCABULARY_FILE, holds_pairs, read_sidecar, sidecar_path, stream_prefix
from hzlm.data.indexed import IndexedReader
from hzlm.data.indexed_layout import BLOCK, idx_path
from hzlm.data.indexed_streams import check_types
from hzlm.errors import UserError
from hzlm.progress import Progress
from hzlm.tools.datasets.ids import IdChecker
from hzlm.vocabulary import Vocabulary

_BLOCK_BYTES = 1 << 22


def check_dataset(folder: Path) -> Iterator[str]:
    """Looks at all of a dataset, in constant memory.

    Sidecars, sizes and checksums of the streams, and the vocabulary's fingerprint. Where a split's files are as they
    were written also what they hold: headers, offsets and documents of the indexes, the alignment of the streams, and
    every id and mark against the vocabulary. Not dev.tsv, test.tsv and the reports, of which no checksum is kept.

    Returns:
        A line for each fault, as it is found; it names the file.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such dataset folder; make one with hzlm prepare")
    sidecars: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        try:
            sidecars[split] = read_sidecar(folder, split)
        except UserError as error:
            yield str(error)
    damaged = set()
    for split, fault in _check_files(folder, sidecars):
        damaged.add(split)
        yield fault
    try:
        vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    except UserError as error:
        yield str(error)
        return
    checker = IdChecker(vocabulary)
    for split, info in sidecars.items():
        if info["vocabulary"] != vocabulary.fingerprint:
            yield f"{folder / VOCABULARY_FILE}: not the vocabulary that the {split} split was made with"
        elif split not in damaged:
            yield from _check_streams(folder, split, info, checker)


def _check_files(folder: Path, sidecars: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """The split of each file that is not what its sidecar says, and how."""
    files = [(split, name, noted) for split, info in sidecars.items() for name, noted in info["files"].items()]
    total = sum((folder / name).stat().st_size for _, name, _ in files if (folder / name).is_file())
    with Progress(total, "reading", "bytes") as bar:
        for split, name, noted in files:
            try:
                size, checksum = _read(folder / name, bar)
            except OSError as error:
                remedy = "copy it again, or prepare the dataset again"
                yield split, f"{folder / name}: cannot be read ({error.strerror}); {remedy}"
                continue
            others = [other for _, other, its in files if its["sha256"] == checksum]
            if name in others:
                if size != noted["bytes"]:
                    what = f"says that {name} holds {noted['bytes']} bytes; by its checksum {size} are right"
                    yield split, f"{sidecar_path(folder, split)}: {what}; copy this sidecar again"
            elif others:
                # Two streams may have the same index, and then the file is likelier that of its own stream.
                other = max(others, key=lambda other: other.partition(".")[2] == name.partition(".")[2])
                yield split, f"{folder / name}: holds what {other} should hold: give both their names again"
            elif size != noted["bytes"]:
                yield split, f"{folder / name}: holds {size} bytes instead of {noted['bytes']}: damaged; copy it again"
            else:
                yield split, f"{folder / name}: its checksum does not fit: damaged; copy it again"


def _read(path: Path, bar: Progress) -> tuple[int, str]:
    """The size of a file, and its SHA-256."""
    checksum, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum.update(block)
            size += len(block)
            bar.advance(len(block))
    return size, checksum.hexdigest()


def _check_streams(folder: Path, split: str, info: Mapping[str, Any], checker: IdChecker) -> Iterator[str]:
    readers: dict[str, IndexedReader] = {}
    for stream in STREAMS:
        prefix = stream_prefix(folder, split, stream)
        try:
            reader = IndexedReader(prefix)
            check_types({stream: reader}, checker.vocabulary)
            reader.verify()
        except UserError as error:
            yield str(error)
        else:
            readers[stream] = reader
    if len(readers) < len(STREAMS):
        return
    hanzi = readers["hanzi"]
    if [info["sequences"], info["positions"]] != [len(hanzi), len(hanzi.numbers)]:
        yield f"{sidecar_path(folder, split)}: its counts are not its streams'; prepare the dataset again"
    strangers = [reader for reader in readers.values() if not _have_equal_indexes(reader, hanzi)]
    for reader in strangers:
        yield f"{idx_path(reader.prefix)}: its lengths or documents are not those of the hanzi; prepare it again"
    if not strangers:
        with Progress(len(hanzi), f"checking {split}", "sentences") as bar:
            yield from checker.check(readers, holds_pairs(info), bar)


def _have_equal_indexes(reader: IndexedReader, other: IndexedReader) -> bool:
    for one, two in ((reader.lengths, other.lengths), (reader.documents, other.documents)):
        if len(one) != len(two):
            return False
        for start in range(0, len(one), BLOCK):
            if not np.array_equal(one[start : start + BLOCK], two[start : start + BLOCK]):
                return False
            reader.release()
            other.release()
    return True
