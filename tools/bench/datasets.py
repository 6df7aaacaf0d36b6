"""Building and reading an indexed dataset, beside Megatron-Core on the same data in the same run."""

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType

import numpy as np
import numpy.typing as npt

from hzlm.data.dataset import stream_prefix
from hzlm.data.indexed import IndexedReader, IndexedWriter
from hzlm.data.indexed_layout import bin_path, idx_path

ROUNDS = 5
"""Times that each program takes its turn."""
READS = 200_000
"""Sequences that are read in a turn."""
SENTENCES = 1 << 16
"""Given to our writer at once, as `hzlm prepare` does."""


def build_vs_megatron(folder: Path) -> float:
    """How many times as fast as Megatron-Core's builder ours writes the hanzi of a dataset's training split.

    Both are given what they are made for and write the same files, which is checked: ours many sentences at a time,
    theirs a document at a time (`add_document`, as Megatron-LM's own preprocessing does), of an array of numpy, which
    it takes faster than a tensor. Medians of ROUNDS turns;
    ours also waits until the disk has the files.
    """
    megatron = _import_megatron()
    reader = IndexedReader(stream_prefix(folder, "train", "hanzi"))
    numbers, lengths, documents = (np.array(part) for part in (reader.numbers, reader.lengths, reader.documents))
    with tempfile.TemporaryDirectory(prefix=".bench.", dir=folder.parent) as scratch:
        ours, theirs = Path(scratch) / "ours", Path(scratch) / "theirs"
        seconds = _take_turns(
            lambda: _build_ours(ours, numbers, lengths, documents),
            lambda: _build_theirs(megatron, theirs, numbers, lengths, documents),
        )
        for path_of in (bin_path, idx_path):
            if path_of(ours).read_bytes() != path_of(theirs).read_bytes():
                raise AssertionError(f"{path_of(ours).name} and {path_of(theirs).name} are not the same")
    return seconds[1] / seconds[0]


def read_vs_megatron(folder: Path) -> float:
    """How many times as many sentences a second as Megatron-Core's reader ours reads, in random order.

    Both give numpy views of the same memory-mapped file, the hanzi of a dataset's training split. Medians of ROUNDS
    turns.
    """
    megatron = _import_megatron()
    prefix = stream_prefix(folder, "train", "hanzi")
    ours, theirs = IndexedReader(prefix), megatron.IndexedDataset(str(prefix))
    order = np.random.default_rng(0).integers(0, len(ours), READS).tolist()

    def read(reader: IndexedReader) -> None:
        for number in order:
            reader[number]

    seconds = _take_turns(lambda: read(ours), lambda: read(theirs))
    return seconds[1] / seconds[0]


def _build_ours(
    prefix: Path,
    numbers: npt.NDArray[np.integer],
    lengths: npt.NDArray[np.int32],
    documents: npt.NDArray[np.int64],
) -> None:
    ends = np.cumsum(lengths, dtype=np.int64)
    with IndexedWriter(prefix, numbers.dtype) as writer:
        for start in range(0, len(lengths), SENTENCES):
            end = min(start + SENTENCES, len(lengths))
            borders = documents[np.searchsorted(documents, start, "right") : np.searchsorted(documents, end, "right")]
            block = numbers[ends[start] - lengths[start] : ends[end - 1]]
            writer.add_many(block, lengths[start:end], borders - start)
        writer.finish()


def _build_theirs(
    megatron: ModuleType,
    prefix: Path,
    numbers: npt.NDArray[np.integer],
    lengths: npt.NDArray[np.int32],
    documents: npt.NDArray[np.int64],
) -> None:
    builder = megatron.IndexedDatasetBuilder(str(bin_path(prefix)), dtype=numbers.dtype.type)
    sizes, borders = lengths.tolist(), documents.tolist()
    places = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])[documents].tolist()
    for i in range(len(borders) - 1):
        builder.add_document(numbers[places[i] : places[i + 1]], sizes[borders[i] : borders[i + 1]])
    builder.finalize(str(idx_path(prefix)))


def _take_turns(*turns: Callable[[], None]) -> list[float]:
    """Median seconds of each, after a turn that does not count."""
    seconds: list[list[float]] = [[] for _ in turns]
    for _ in range(1 + ROUNDS):
        for found, turn in zip(seconds, turns, strict=True):
            start = time.perf_counter()
            turn()
            found.append(time.perf_counter() - start)
    return [median(found[1:]) for found in seconds]


def _import_megatron() -> ModuleType:
    """Megatron-Core's module of indexed datasets; it warns of libraries for GPUs that it would like to have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from megatron.core.datasets import indexed_dataset
    return indexed_dataset
