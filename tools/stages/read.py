"""The first stage: files -> clean documents, in chunks of about a million characters, with the keys of duplicates."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hzlm.tools.clean import Cleaner
from hzlm.tools.duplicates.config import DuplicatesConfig
from hzlm.tools.duplicates.key_files import write_keys
from hzlm.tools.duplicates.keys import exact_keys, near_keys
from hzlm.tools.filters import fault_of
from hzlm.tools.readers.documents import read_documents
from hzlm.tools.stages.records import RecordWriter
from hzlm.tools.stages.tally import Tally
from hzlm.tools.stages.work import Stage, Work

CHUNK_CHARACTERS = 1 << 20
"""A chunk is closed when it holds as many; a document is at most as long."""


def read(work: Work, task: int, folder: Path) -> Tally:
    """Reads, cleans and filters the documents of some pieces of files.

    Makes for each chunk ORDINAL.jsonl.zst, a record [ordinal of the file, text] a document, and the key files
    ORDINAL.exact.npy and ORDINAL.near.npy.
    """
    tally = Tally()
    chunks = 0
    keys: dict[str, int] = {}
    for chunk in _chunks(_documents(work, task, tally)):
        texts = [text for _, text in chunk]
        with RecordWriter(folder / f"{chunks:05}.jsonl.zst") as writer:
            for record in chunk:
                writer.add(record)
        for kind, found in _keys(texts, work.config.duplicates).items():
            items = np.repeat(np.arange(len(texts), dtype=np.uint32), found.shape[1])
            keys[kind] = keys.get(kind, 0) + write_keys(folder / f"{chunks:05}.{kind}.npy", found.ravel(), items)
        chunks += 1
    tally.made["chunks"] = chunks
    tally.made["keys"] = keys
    return tally


def _documents(work: Work, task: int, tally: Tally) -> Iterator[tuple[int, str]]:
    """The ordinal of its file, and the text of every document that is kept."""
    cleaner = Cleaner()
    read: dict[str, int] = {}
    for piece in work.pieces[task]:
        source = work.ordinal_of[str(piece.path)]
        characters = 0
        for raw in read_documents(piece, work.config.input, tally.troubles):
            characters += len(raw)
            tally.read.count(len(raw))
            text = cleaner.clean(raw)
            fault = fault_of(text, work.config.filter)
            if fault is None:
                tally.kept.count(len(text))
                tally.removed += len(raw) - len(text)
                yield source, text
            else:
                tally.drop(fault, len(raw))
        read[str(piece.path)] = read.get(str(piece.path), 0) + characters
    tally.made["files"] = read


def _keys(texts: Sequence[str], config: DuplicatesConfig) -> dict[str, npt.NDArray[np.uint64]]:
    """Kind of key -> uint64 [documents, keys of each], of the kinds that are searched for."""
    keys = {}
    if config.exact:
        keys["exact"] = exact_keys(texts)[:, None]
    if config.near:
        keys["near"] = near_keys(texts, config.ngram, config.similarity)
    return keys


def _chunks(documents: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    chunk: list[tuple[int, str]] = []
    characters = 0
    for document in documents:
        chunk.append(document)
        characters += len(document[1])
        if characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


READ = Stage("read", ("input", "filter", "duplicates"), lambda work: len(work.pieces), read)
