"""JSON objects, one a line, compressed: what the stages hand to each other (`zstdcat FILE` shows it)."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zstandard

_LEVEL = 1


class RecordWriter:
    """Writes records to a file, one after the other; a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = zstandard.open(path, "wt", zstandard.ZstdCompressor(level=_LEVEL), encoding="utf-8", newline="\n")

    def add(self, record: Any) -> None:
        """Appends one record."""
        self._file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_records(path: Path) -> Iterator[Any]:
    """The records of a file, one after the other."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as content:
        for line in io.TextIOWrapper(content, encoding="utf-8", newline="\n"):
            yield json.loads(line)
