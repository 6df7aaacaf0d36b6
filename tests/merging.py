"""Indexed files put one behind the other, as `hzlm data merge` does with the streams of datasets."""

from collections.abc import Sequence
from pathlib import Path

from hzlm.data.indexed import IndexedReader, IndexedWriter


def merge_indexed(prefixes: Sequence[Path], prefix: Path) -> None:
    """Writes the sequences and documents of some files as `PREFIX.bin` and `PREFIX.idx`."""
    with IndexedWriter(prefix, IndexedReader(prefixes[0]).dtype) as writer:
        for one in prefixes:
            writer.append(IndexedReader(one))
        writer.finish()
