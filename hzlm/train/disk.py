"""Writing to a disk that may fill up, for a process that may be killed."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hzlm.model.pretrained import find_checkpoint

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space left, quota exceeded, beyond the size that a file may have."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`. What was written there is forced to the disk and takes the place of `path`.

    So `path` is what it was or what it shall be, whenever the process is killed; what it was, where the block fails.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        force_to_disk(temporary)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)
    force_to_disk(path.parent)


def force_to_disk(path: Path) -> None:
    """Returns when the disk itself has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def full_disk_explained(run_folder: Path) -> Iterator[None]:
    """An OSError for want of room then says what is whole and what to do; others pass as they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        whole = find_checkpoint(run_folder)
        rest = f"the last whole checkpoint is {whole.name}" if whole is not None else "no checkpoint is saved yet"
        reason = f"{os.strerror(error.errno).lower()}; {rest}: make room, and the same command goes on from there"
        raise OSError(error.errno, reason, str(run_folder)) from error
