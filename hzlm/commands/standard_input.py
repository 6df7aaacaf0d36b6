"""Lines of standard input, for commands that answer each one."""

import sys
from collections.abc import Iterator
from itertools import islice

from hzlm.errors import UserError


def read_blocks(most: int) -> Iterator[list[tuple[str, str]]]:
    """The lines with their places (`standard input, line 3`), up to `most` at once.

    Someone who types gets each line at once; a pipe is quicker in blocks.

    Raises:
        UserError: a line is no UTF-8.
    """
    lines = _read_lines()
    block = 1 if sys.stdin.isatty() else most
    while batch := list(islice(lines, block)):
        yield batch


def _read_lines() -> Iterator[tuple[str, str]]:
    for number, line in enumerate(sys.stdin.buffer, start=1):
        where = f"standard input, line {number}"
        try:
            yield where, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(f"{where}: no UTF-8 text; convert it to UTF-8 first") from None
