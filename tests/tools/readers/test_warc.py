import gzip
import io
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import damaged
from hzlm.tools.readers.html import NO_HANZI
from hzlm.tools.readers.troubles import Troubles
from hzlm.tools.readers.warc import BROKEN_WARC, NOT_HTML, NOT_OK, read_warc

pytest.importorskip("fastwarc", reason="fastwarc, of the extra data, is not installed")
pytest.importorskip("trafilatura", reason="trafilatura, of the extra data, is not installed")

PARAGRAPH = "改革开放以来，我国经济社会发展取得了很大的成就，人民的生活水平不断提高，城乡面貌发生了深刻的变化。"
PAGE = f"<html><body><article><p>{PARAGRAPH}</p><p>第二段：{PARAGRAPH}</p></article></body></html>"
TEXT = f"{PARAGRAPH}\n第二段：{PARAGRAPH}"


def record(kind: str, content: bytes, media: str = "application/http; msgtype=response") -> bytes:
    """A record as ISO 28500 describes it."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-123456789012>\r\n"
        f"WARC-Date: 2024-01-01T00:00:00Z\r\nWARC-Target-URI: http://example.cn/\r\nContent-Type: {media}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content + b"\r\n\r\n"


def answer(content: bytes, status: str = "200 OK", media: str = "text/html", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\n{more}\r\n"
    return record("response", head.encode() + content)


def read(content: bytes, size: int = 1000) -> tuple[list[str], Troubles]:
    troubles = Troubles()
    blocks: Iterator[bytes] = (content[start : start + size] for start in range(0, len(content), size))
    return list(read_warc(blocks, lambda number: f"record {number}", troubles)), troubles


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_pages_of_a_crawl(size: int) -> None:
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (PAGE.encode()[:99], PAGE.encode()[99:]))
    found, troubles = read(
        record("warcinfo", b"software: test\r\n", "application/warc-fields")
        + record("request", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request")
        + answer(PAGE.encode(), media="text/html; charset=utf-8")
        + record("metadata", b"a: b\r\n", "application/warc-fields")
        + answer(PAGE.encode("gb18030"), media="text/HTML;charset=gb2312")
        + answer(PAGE.encode(), status="404 Not Found")
        + answer(b"%PDF-1.5", media="application/pdf")
        + answer(b"no media type", media="")
        + answer(gzip.compress(PAGE.encode()), more="Content-Encoding: gzip\r\n")
        + answer(chunked + b"0\r\n\r\n", more="Transfer-Encoding: chunked\r\n", media="application/xhtml+xml")
        + answer(b"<p>English</p>"),
        size,
    )
    assert found == [TEXT] * 4
    assert troubles.places == {
        NOT_OK: ["record 3"],
        NOT_HTML: ["record 4", "record 5"],
        NO_HANZI: ["record 8"],
    }


def test_texts_of_a_crawl() -> None:
    texts = [f"第{i}页\n{PARAGRAPH}" for i in range(300)]
    content = record("warcinfo", b"", "application/warc-fields")
    content += b"".join(record("conversion", text.encode(), "text/plain") for text in texts)
    found, troubles = read(content)
    assert found == texts
    assert not troubles.counts


def test_what_other_software_writes_is_read() -> None:
    writer = pytest.importorskip("warcio.warcwriter", reason="warcio, of the extra dev, is not installed")
    headers = pytest.importorskip("warcio.statusandheaders")
    file = io.BytesIO()
    archive = writer.WARCWriter(file, gzip=True)
    archive.write_record(archive.create_warcinfo_record("a.warc.gz", {"software": "test"}))
    for i in range(20):
        status = headers.StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.0")
        payload = io.BytesIO(PAGE.replace("第二", f"第{i}").encode())
        archive.write_record(
            archive.create_warc_record(f"http://example.cn/{i}", "response", payload=payload, http_headers=status)
        )
    found, troubles = read(gzip.decompress(file.getvalue()))
    assert found == [TEXT.replace("第二", f"第{i}") for i in range(20)]
    assert not troubles.counts


def test_behind_a_broken_record_the_file_ends() -> None:
    pages = b"".join(record("conversion", text.encode(), "text/plain") for text in ("一", "二"))
    found, troubles = read(pages + b"no record\r\n\r\n" + pages)
    assert found == ["一", "二"]
    assert troubles.counts == {BROKEN_WARC: 1}
    assert troubles.places[BROKEN_WARC][0].startswith("record 3 (")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_archives_end_no_worker(data: st.DataObject) -> None:
    content = answer("<p>只有一段</p>".encode()) + record("conversion", "文字".encode(), "text/plain")
    found, troubles = read(data.draw(damaged(content)))
    assert len(found) + troubles.counts.total() <= 6
    "".join(found).encode()
