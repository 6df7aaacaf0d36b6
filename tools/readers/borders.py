"""Where the pieces of a big file part, so that no document and no record is broken."""

import re
from typing import BinaryIO

from hzlm.tools.readers.lines import LONGEST_RECORD, SENTENCE_END

# Text without a blank line for that long is cut at a line end, and a line that long behind a sentence or a character.
_DOCUMENT_BYTES = 1 << 24
_WINDOW_BYTES = 1 << 16

_BLANK_LINE = re.compile(rb"\n(?:[ \t\r\f\v]|\xe3\x80\x80)*\n")
_LINE_END = re.compile(rb"\n")
_CHARACTER = re.compile(rb"(?s)(?<=.)(?=[^\x80-\xbf])")


def find_document_border(file: BinaryIO, position: int) -> int:
    """The end of the first blank line behind byte `position`, where the document before it is over.

    In a long text without blank lines it is the first line end, sentence end or character. As it depends on the file
    and the position alone, the pieces before and behind it agree.
    """
    return _find_border(file, position, _DOCUMENT_BYTES, [_BLANK_LINE, _LINE_END, SENTENCE_END, _CHARACTER])


def find_line_border(file: BinaryIO, position: int) -> int:
    """As `find_document_border`, where each line is a document: the first line that starts from `position` on."""
    return _find_border(file, position, _DOCUMENT_BYTES, [_LINE_END, SENTENCE_END, _CHARACTER])


def find_record_border(file: BinaryIO, position: int) -> int:
    """The first line of JSON that starts from byte `position` on. A line that is too long to be read may be cut."""
    return _find_border(file, position, LONGEST_RECORD, [_LINE_END, _CHARACTER])


def _find_border(file: BinaryIO, position: int, longest: int, borders: list[re.Pattern[bytes]]) -> int:
    """The end of the first match of the first of `borders` that is found in the next `longest` bytes."""
    if position == 0:
        return 0
    # A line that starts right at the position follows the line end before it.
    start = position - 1
    file.seek(start)
    window = b""
    while len(window) < longest:
        more = file.read(max(len(window), _WINDOW_BYTES))
        if not more:
            return start + len(window)
        window += more
        if found := borders[0].search(window):
            return start + found.end()
    return start + next((found.end() for border in borders[1:] if (found := border.search(window))), len(window))
