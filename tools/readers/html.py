"""HTML pages -> their text without what surrounds it: menus, lists of links, footers (trafilatura, Barbaresi 2021)."""

import codecs
import functools
import logging
import re
import signal
import threading
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from types import FrameType

from hzlm.pinyin import HANZI_RANGES
from hzlm.tools.readers.encoding import HEAD_BYTES, encoding_of
from hzlm.tools.readers.lines import Place, mend
from hzlm.tools.readers.text import part_text
from hzlm.tools.readers.troubles import Troubles

LONG_PAGE = "page of more than 8 MiB, left out"
NO_HANZI = "page without hanzi, left out"
NO_EXTRACT = "page in which no text is found, left out"
FAILED = "page whose text cannot be taken out, left out"
SLOW = "page whose text takes longer than 30 s of computing to take out, left out"

PAGE_BYTES = 1 << 23
"""Bytes of the largest page that is read."""
_SECONDS = 30.0

_HANZI = re.compile(f"[{HANZI_RANGES}]")
_META = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_META_BYTES = 1 << 12
# Python's names of encodings -> the one that browsers mean; the Latin ones, which hold no hanzi, are wrong labels.
_MEANT = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "ascii": None,
    "iso8859-1": None,
    "cp1252": None,
}
# How trafilatura writes lists and tables.
_LIST_ITEM = re.compile("^- ", re.MULTILINE)
_TABLE_RULE = re.compile(r"^\|[-|]+\|[ ]*\n?", re.MULTILINE)
_TABLE_ROW = re.compile(r"^\|(.*)\|[ ]*$", re.MULTILINE)
# A hanzi says as much as three letters, for which trafilatura's own bounds are meant.
_LEAST_CHARACTERS = {"MIN_EXTRACTED_SIZE": "60", "MIN_OUTPUT_SIZE": "1", "MIN_OUTPUT_COMM_SIZE": "1"}


class _TimeUp(BaseException):
    """Not an `Exception`: those the extraction handles itself."""


def read_html(blocks: Iterator[bytes], place: Place, troubles: Troubles) -> Iterator[str]:
    """The text of the one page in `blocks`."""
    content = b""
    for block in blocks:
        content += block
        if len(content) > PAGE_BYTES:
            troubles.note(LONG_PAGE, place(1))
            return
    yield from read_page(content, None, place, 1, troubles)


def read_page(content: bytes, charset: str | None, place: Place, number: int, troubles: Troubles) -> Iterator[str]:
    """The text of a page, its paragraphs parted by `\\n`; nothing where it has none.

    Args:
        content: the page.
        charset: the encoding that the server gave.
        place: names its place in the file.
        number: its number in the file.
        troubles: where it is noted that, and why, a page gives nothing.
    """
    page = decode_page(content, charset)
    if not page or page.isspace():
        return
    if not _HANZI.search(page):
        troubles.note(NO_HANZI, place(number))
        return
    try:
        with _time_limit(_SECONDS):
            text = extract_text(page.replace("\x00", ""))
    except _TimeUp:
        troubles.note(SLOW, place(number))
        return
    except Exception as error:  # whatever an extraction of a hundred rules makes of a broken page
        troubles.note(FAILED, f"{place(number)} ({type(error).__name__})")
        return
    if text:
        yield from part_text(mend(text, place, number, troubles), place, number, troubles)
    else:
        troubles.note(NO_EXTRACT, place(number))


def extract_text(page: str) -> str:
    """The main text and the comments of an HTML page, a paragraph or table row a line; empty where none is found."""
    import trafilatura

    # It logs every page that it finds nothing in.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL + 1)
    text = trafilatura.extract(page, config=_bounds()) or ""
    text = _LIST_ITEM.sub("", _TABLE_RULE.sub("", text))
    return _TABLE_ROW.sub(lambda row: " ".join(row[1].replace("|", " ").split()), text).strip()


@functools.cache
def _bounds() -> ConfigParser:
    from trafilatura.settings import use_config

    config = use_config()
    for name, value in _LEAST_CHARACTERS.items():
        config.set("DEFAULT", name, value)
    return config


def decode_page(content: bytes, charset: str | None) -> str:
    """A page as text: in UTF-8 where it is, else as the server or the page itself says, else as it looks."""
    try:
        # The end may be cut off inside a character.
        return codecs.getincrementaldecoder("utf-8-sig")().decode(content)
    except UnicodeDecodeError:
        pass
    named = _META.search(content, 0, _META_BYTES)
    for label in (charset, named and named.group(1).decode("ascii", "replace")):
        try:
            encoding = codecs.lookup(label).name if label else None
            encoding = _MEANT.get(encoding, encoding) if encoding else None
            if encoding:
                return content.decode(encoding, "replace")
        except (LookupError, UnicodeError, ValueError):
            continue
    return content.decode(encoding_of(content[:HEAD_BYTES]) or "utf-8", "replace")


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises `_TimeUp` in a block that computes for longer; waiting does not count. Only the main thread has limits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
