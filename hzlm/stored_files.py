"""Files that are whole or not there: how they are written, and how one knows that they are as they were written."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space left, quota exceeded, beyond the size that a file may have."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`. What was written there is forced to the disk and takes the place of `path`.

    So `path` is what it was or what it shall be, whenever the process is killed; what it was, where the block fails. A
    symbolic link stays, and what it links to is replaced.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        force_to_disk(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    force_to_disk(path.parent)


def force_to_disk(path: Path) -> None:
    """Returns when the disk itself has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe_file(path: Path) -> dict[str, Any]:
    """What is noted of a file to know it again: "bytes" and "sha256" (hexadecimal)."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def damage_of(path: Path, noted: Any) -> str | None:
    """In what a file differs from what `describe_file` noted; None where it does not."""
    try:
        size = path.stat().st_size
        if size != noted["bytes"]:
            return f"holds {size} bytes instead of {noted['bytes']}: damaged"
        if describe_file(path) != noted:
            return "its checksum does not fit: damaged"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None
