"""Folders that appear when they are whole."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hzlm.errors import UserError


@contextmanager
def appearing(output: Path) -> Iterator[Path]:
    """Gives an empty folder beside `output`, which takes that name when the block ends, and vanishes where it fails.

    Raises:
        UserError: `output` is there already, or cannot be written.
    """
    if output.exists():
        raise UserError(f"{output}: this exists already; remove it or choose another output")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise UserError(f"{output}: cannot write here: {error.strerror}; choose another output") from error
    with scratch as name:
        folder = Path(name) / output.name
        folder.mkdir()
        yield folder
        folder.rename(output)
