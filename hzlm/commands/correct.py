"""`hzlm correct`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hzlm.commands.standard_input import read_blocks
from hzlm.errors import UserError

if TYPE_CHECKING:
    from hzlm.decode.corrector import Corrector

SUMMARY = "replace wrong hanzi in a text"
EXAMPLES = (
    "hzlm correct runs/corrector 我爱北经",
    "hzlm correct runs/corrector 我爱北经 --changes",
    "hzlm correct runs/corrector < text.txt > corrected.txt",
)

LINES_AT_ONCE = 1024
"""Lines of a pipe that are sorted by length and corrected together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="run folder or checkpoint")
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what to correct; without it, lines of standard input")
    parser.add_argument("--changes", action="store_true",
                        help="print the changes instead: line, character, wrong, right, nats gained")  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hzlm.decode.corrector import Corrector
    from hzlm.progress import Progress

    corrector = Corrector.load(options.model)
    if options.text is not None:
        try:
            options.text.encode()
        except UnicodeEncodeError:
            raise UserError("the text: no UTF-8 text; convert it to UTF-8 first") from None
        _correct_lines(corrector, options.text.split("\n"), 1, options.changes)
        return
    with Progress(None, "correcting", "lines") as progress:
        for batch in read_blocks(LINES_AT_ONCE):
            _correct_lines(corrector, [text for _, text in batch], progress.done + 1, options.changes)
            progress.advance(len(batch))


def _correct_lines(corrector: "Corrector", lines: Sequence[str], first: int, changes: bool) -> None:
    """Print what becomes of every line, in order; lines, and characters in them, are counted from 1."""
    for number, correction in enumerate(corrector.correct_many(lines), start=first):
        if not changes:
            print(correction.text)
            continue
        for change in correction.changes:
            print(number, change.position + 1, change.wrong, change.right, f"{change.gain:.2f}", sep="\t")
    sys.stdout.flush()
