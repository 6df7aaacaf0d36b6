"""Blocks of bytes -> lines of text, in little memory whatever the lines are."""

import re
from collections.abc import Callable, Iterator

from hzlm.tools.readers.troubles import Troubles

BROKEN_ENCODING = "line with bytes that are no UTF-8, read with � in their place"
NULL_BYTES = "line with null bytes, read without them"
LONG_LINE = "line of more than 1 MiB, cut behind sentences"

LONGEST_LINE = 1 << 20
"""Bytes of the longest line of text that is passed on in one."""
LONGEST_RECORD = 1 << 28
"""Bytes of the longest line of JSON that is read."""

_END_MARKS = rb"\xe3\x80\x82|\xef\xbc[\x81\x9b\x9f]|\xe2\x80\xa6|[!?;]"
_CLOSING = rb"\xe2\x80[\x99\x9d]|\xef\xbc\x89|\xe3\x80[\x8b\x8d\x8f\x91\x95]|[\"')\]]"
SENTENCE_END = re.compile(rb"(?:" + _END_MARKS + rb")+(?:" + _CLOSING + rb")*")
"""The end of a sentence in UTF-8: 。！？；… and the quotes and brackets that close there."""
# So many bytes before the largest length a sentence end is looked for.
_LAST_SENTENCE = 1 << 16

Place = Callable[[int], str]
"""The name of a line's place in its file, by the number of the line: "news.txt, line 17"."""


def read_lines(blocks: Iterator[bytes], place: Place, troubles: Troubles) -> Iterator[tuple[int, str]]:
    """Yields (number of the line, line) without line ends. A line that is too long comes as several, all its text."""
    number = 1
    cut = False
    for line, ended in split_lines(blocks, LONGEST_LINE):
        if not (ended or cut):
            troubles.note(LONG_LINE, place(number))
        cut = not ended
        yield number, mend(line.decode("utf-8", "replace"), place, number, troubles).removesuffix("\r")
        number += ended


def mend(text: str, place: Place, number: int, troubles: Troubles) -> str:
    """The text without null characters; these, and characters that could not be decoded, are noted."""
    if "\ufffd" in text:
        troubles.note(BROKEN_ENCODING, place(number))
    if "\x00" in text:
        troubles.note(NULL_BYTES, place(number))
        text = text.replace("\x00", "")
    return text


def split_lines(blocks: Iterator[bytes], longest: int) -> Iterator[tuple[bytes, bool]]:
    """Yields (line without its end, True). A line of more than `longest` bytes is cut, mostly behind sentences.

    What follows the last line end is a line too, if it holds anything. The parts of a cut line but for the last come
    with False. At most `longest` bytes and a block are held.
    """
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        first, *others = block.split(b"\n")
        parts.append(first)
        size += len(first)
        while size > longest:
            line = b"".join(parts)
            end = _place_to_cut(line, longest)
            yield line[:end], False
            parts = [line[end:]]
            size -= end
        if others:
            yield b"".join(parts), True
            for line in others[:-1]:
                yield line, True
            parts = others[-1:]
            size = len(parts[0])
    if size:
        yield b"".join(parts), True


def _place_to_cut(line: bytes, longest: int) -> int:
    """Behind the last sentence that ends shortly before `longest`, else before a character."""
    ends = [found.end() for found in SENTENCE_END.finditer(line, longest - _LAST_SENTENCE, longest)]
    if ends:
        return ends[-1]
    # A character has up to three bytes of this kind.
    return next((end for end in range(longest, longest - 4, -1) if line[end] & 0xC0 != 0x80), longest)
