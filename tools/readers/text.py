"""Plain text -> documents."""

from collections.abc import Iterator

from hzlm.tools.readers.lines import LONGEST_LINE, Place, read_lines, split_lines
from hzlm.tools.readers.troubles import Troubles

LONG_DOCUMENT = "document of more than a million characters, passed on in parts"

LONGEST_TEXT = 1 << 20
"""Characters of the longest document that is passed on in one."""
_SLICE = 1 << 16
# A stray blank line does not make one document of all the lines before it.
_MOST_LINES = 100


def has_blank_lines(head: str) -> bool:
    """Whether a text that begins with `head` is parted by blank lines, one in a hundred lines at least."""
    blank = [not line or line.isspace() for line in head.strip().split("\n")]
    return sum(blank) * _MOST_LINES >= len(blank)


def read_text(blocks: Iterator[bytes], each_line: bool, place: Place, troubles: Troubles) -> Iterator[str]:
    """The documents of UTF-8 text, lines parted by `\\n`; a blank line ends one, or where `each_line`, each line."""
    lines = read_lines(blocks, place, troubles)
    if each_line:
        yield from (line for _, line in lines if line and not line.isspace())
    else:
        yield from _gather(lines, place, troubles)


def part_text(text: str, place: Place, number: int, troubles: Troubles) -> Iterator[str]:
    """One document as it is, or, where it is too long, its parts, without blank lines.

    Args:
        text: the document.
        place: names its place in the file.
        number: its number in the file.
        troubles: where its length is noted.
    """
    if len(text) <= LONGEST_TEXT:
        yield text
        return
    blocks = (text[start : start + _SLICE].encode() for start in range(0, len(text), _SLICE))
    lines = (line.decode() for line, _ in split_lines(blocks, LONGEST_LINE))
    filled = ((number, line) for line in lines if line and not line.isspace())
    yield from _gather(filled, place, troubles)


def _gather(lines: Iterator[tuple[int, str]], place: Place, troubles: Troubles) -> Iterator[str]:
    held: list[str] = []
    size = 0
    parted = False
    for number, line in lines:
        blank = not line or line.isspace()
        if held and (blank or size + len(line) > LONGEST_TEXT):
            yield "\n".join(held)
            held = []
            size = 0
            if not (blank or parted):
                troubles.note(LONG_DOCUMENT, place(number))
            parted = not blank
        if blank:
            parted = False
        else:
            held.append(line)
            size += len(line) + 1
    if held:
        yield "\n".join(held)
