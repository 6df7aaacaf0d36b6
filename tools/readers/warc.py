"""Web archives as Common Crawl has them -> documents: WARC (pages) and WET (their texts); ISO 28500."""

import io
from collections.abc import Iterator
from typing import Any

from hzlm.tools.readers.html import LONG_PAGE, PAGE_BYTES, read_page
from hzlm.tools.readers.lines import Place, mend
from hzlm.tools.readers.text import part_text
from hzlm.tools.readers.troubles import Troubles

BROKEN_WARC = "broken record, behind which its file is not read; fetch it again"
BROKEN_RECORD = "record that cannot be read, left out"
NOT_HTML = "answer that is no HTML, left out"
NOT_OK = "answer of a server that is no page (status other than 200), left out"

_HTML = frozenset({"text/html", "application/xhtml+xml"})


class _Stream(io.RawIOBase):
    """Blocks of bytes as the file that fastwarc reads from."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._blocks, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        self._position += size
        return size

    def tell(self) -> int:
        return self._position


def read_warc(blocks: Iterator[bytes], place: Place, troubles: Troubles) -> Iterator[str]:
    """The texts of the records of an archive, decompressed: of HTML pages the main text, of WET records all.

    Requests, metadata and repeated pages (revisit) are no documents. Answers that are no HTML page are noted.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    kinds = WarcRecordType.response | WarcRecordType.conversion
    number = 0
    try:
        records = ArchiveIterator(_Stream(blocks), kinds, parse_http=False, stream_detect=False)
        for number, record in enumerate(records, start=1):
            if record.content_length > PAGE_BYTES:
                troubles.note(LONG_PAGE, place(number))
            elif record.record_type == WarcRecordType.conversion:
                text = record.reader.read().decode("utf-8-sig", "replace")
                yield from part_text(mend(text, place, number, troubles), place, number, troubles)
            else:
                try:
                    record.parse_http(auto_decode="all")
                    content = record.reader.read()
                except (OSError, ValueError) as error:
                    troubles.note(BROKEN_RECORD, f"{place(number)} ({error})")
                    continue
                headers = record.http_headers
                if headers is None or headers.status_code is None:
                    troubles.note(BROKEN_RECORD, place(number))
                elif headers.status_code != 200:
                    troubles.note(NOT_OK, place(number))
                elif (record.http_content_type or "").lower() not in _HTML:
                    troubles.note(NOT_HTML, place(number))
                else:
                    yield from read_page(content, record.http_charset, place, number, troubles)
    except OSError as error:
        troubles.note(BROKEN_WARC, f"{place(number + 1)} ({error})")
