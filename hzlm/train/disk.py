"""What a run says when the disk is full."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hzlm.errors import UserError
from hzlm.model.pretrained import find_checkpoint
from hzlm.stored_files import NO_ROOM


@contextmanager
def full_disk_explained(run_folder: Path) -> Iterator[None]:
    """An OSError for want of room then says what is whole and what to do; others pass as they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        try:
            whole = find_checkpoint(run_folder)
        except UserError:
            whole = None  # and a `latest` that names nothing is no reason to hide the full disk
        rest = f"the last whole checkpoint is {whole.name}" if whole is not None else "no checkpoint is saved yet"
        reason = f"{os.strerror(error.errno).lower()}; {rest}: make room, and the same command goes on from there"
        raise OSError(error.errno, reason, str(run_folder)) from error
