"""The one entry to reading: a piece of a file -> the texts of its documents."""

import codecs
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from hzlm.tools.readers.borders import find_document_border, find_line_border, find_record_border
from hzlm.tools.readers.config import InputConfig
from hzlm.tools.readers.decompress import UNREADABLE, read_blocks
from hzlm.tools.readers.encoding import HEAD_BYTES, OTHER_ENCODING, UNKNOWN_ENCODING, convert_to_utf8, encoding_of
from hzlm.tools.readers.files import Piece, format_of, is_compressed
from hzlm.tools.readers.html import read_html
from hzlm.tools.readers.json_lines import read_json_lines
from hzlm.tools.readers.lines import Place
from hzlm.tools.readers.parquet import read_parquet
from hzlm.tools.readers.text import has_blank_lines, read_text
from hzlm.tools.readers.troubles import Troubles
from hzlm.tools.readers.warc import read_warc

EMPTY = "file without text"

FindBorder = Callable[[BinaryIO, int], int]


def read_documents(piece: Piece, settings: InputConfig, troubles: Troubles) -> Iterator[str]:
    """The texts of the documents of a piece, in order, their lines parted by `\\n`.

    Every document of a file comes from exactly one of its pieces. None is blank, holds a null character or has more
    than 1 Mi characters (longer ones come in parts). What cannot be read is noted, and the rest goes on; memory does
    not grow with the input. One thing can depend on the machine: a page whose text takes longer than 30 s of CPU time
    to extract is left out, and noted.
    """
    before = troubles.counts.total()
    found = False
    try:
        for text in _read(piece, settings, troubles):
            if text and not text.isspace():
                found = True
                yield text
        if not found and troubles.counts.total() == before and _is_whole(piece):
            troubles.note(EMPTY, str(piece.path))
    except OSError as error:
        troubles.note(UNREADABLE, f"{piece.path} ({error.strerror})")


def _read(piece: Piece, settings: InputConfig, troubles: Troubles) -> Iterator[str]:
    match format_of(piece.path):
        case "parquet":
            return read_parquet(piece.path, settings.text_field, _place_in(piece, "row"), troubles)
        case "html":
            return read_html(read_blocks(piece, troubles), _place_in(piece, "page"), troubles)
        case "warc":
            return read_warc(read_blocks(piece, troubles), _place_in(piece, "record"), troubles)
        case "json":
            encoding = encoding_of(_head_of(piece.path))
            piece, blocks = _utf8_blocks(piece, encoding, find_record_border, troubles)
            return read_json_lines(blocks, settings.text_field, _place_in(piece, "line"), troubles)
        case "text":
            head = _head_of(piece.path)
            encoding = encoding_of(head)
            each_line = settings.document == "line"
            if settings.document == "auto":
                each_line = not has_blank_lines(head.decode(encoding or "utf-8", "replace"))
            find_border = find_line_border if each_line else find_document_border
            piece, blocks = _utf8_blocks(piece, encoding, find_border, troubles)
            return read_text(blocks, each_line, _place_in(piece, "line"), troubles)


def _utf8_blocks(
    piece: Piece, encoding: str | None, find_border: FindBorder, troubles: Troubles
) -> tuple[Piece, Iterator[bytes]]:
    """The piece from the border before it to the border behind it, and its content in UTF-8.

    The lines of a file in another encoding cannot be told before it is decoded, so its first piece is all of it.
    """
    if encoding == "utf-8":
        if not _is_whole(piece):
            with piece.path.open("rb") as file:
                piece = Piece(piece.path, find_border(file, piece.start), find_border(file, piece.end))
        return piece, _without_mark(read_blocks(piece, troubles), piece)
    if piece.start > 0:
        return piece, iter(())
    troubles.note(OTHER_ENCODING if encoding else UNKNOWN_ENCODING, f"{piece.path} ({encoding or 'unknown'})")
    if encoding is None:
        return piece, iter(())
    piece = Piece(piece.path, 0, piece.path.stat().st_size)
    return piece, convert_to_utf8(read_blocks(piece, troubles), encoding)


def _head_of(path: Path) -> bytes:
    head = b""
    # Reading itself will note what is wrong with the file.
    with closing(read_blocks(Piece(path, 0, HEAD_BYTES), Troubles())) as blocks:
        for block in blocks:
            head += block
            if len(head) >= HEAD_BYTES:
                break
    return head[:HEAD_BYTES]


def _without_mark(blocks: Iterator[bytes], piece: Piece) -> Iterator[bytes]:
    if piece.start == 0:
        yield next(blocks, b"").removeprefix(codecs.BOM_UTF8)
    yield from blocks


def _is_whole(piece: Piece) -> bool:
    return piece.start == 0 and (is_compressed(piece.path) or piece.end >= piece.path.stat().st_size)


def _place_in(piece: Piece, unit: str) -> Place:
    behind = f" behind byte {piece.start}" if piece.start else ""
    return lambda number: f"{piece.path}, {unit} {number}{behind}"
