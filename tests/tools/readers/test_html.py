import html
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import damaged
from hzlm.tools.readers import html as reader
from hzlm.tools.readers.html import (
    FAILED,
    LONG_PAGE,
    NO_EXTRACT,
    NO_HANZI,
    PAGE_BYTES,
    SLOW,
    decode_page,
    extract_text,
    read_html,
    read_page,
)
from hzlm.tools.readers.lines import BROKEN_ENCODING
from hzlm.tools.readers.troubles import Troubles

pytest.importorskip("trafilatura", reason="trafilatura, of the extra data, is not installed")

PARAGRAPHS = [
    "改革开放以来，我国经济社会发展取得了很大的成就，人民的生活水平不断提高，城乡面貌发生了深刻的变化。",
    "今天天气不错，我们一起去公园里走一走吧！他说这是他一生中最高兴的一天，因为他终于见到了多年没有见面的朋友。",
    "这本书写得很好，内容丰富，看了以后学到不少东西，推荐给大家。书里的“故事”也很感人，很多人读过以后都忘不了。",
]
MENU = "".join(f'<li><a href="/{i}">{name}</a></li>' for i, name in enumerate(["首页", "新闻频道", "体育频道", "登录"]))
FOOTER = '<div class="footer"><p>关于我们</p><p>版权所有 京ICP备12345678号</p></div>'


def page(body: str, head: str = "") -> str:
    return (
        f"<html><head>{head}<title>标题</title><script>var x = '脚本';</script></head>"
        f'<body><div class="nav"><ul>{MENU}</ul></div>{body}{FOOTER}</body></html>'
    )


def read(content: bytes, charset: str | None = None) -> tuple[list[str], Troubles]:
    troubles = Troubles()
    return list(read_page(content, charset, lambda number: f"page {number}", 1, troubles)), troubles


@pytest.mark.parametrize(
    "body",
    [
        "<article>" + "".join(f"<p>{html.escape(p)}</p>" for p in PARAGRAPHS) + "</article>",
        '<div class="content">' + "<br>\n".join(map(html.escape, PARAGRAPHS)) + "</div>",
        "<div><div>" + "".join(f"<p><span>{p[:9]}</span>{p[9:]}</p>" for p in PARAGRAPHS) + "</div></div>",
        "<article><ul>" + "".join(f"<li>{html.escape(p)}</li>" for p in PARAGRAPHS) + "</ul></article>",
    ],
)
def test_the_paragraphs_without_what_surrounds_them(body: str) -> None:
    assert extract_text(page(body)).split("\n") == PARAGRAPHS


def test_tables_that_lay_out_a_page_keep_their_text() -> None:
    body = "<table><tr><td>" + "".join(f"<p>{p}</p>" for p in PARAGRAPHS) + "</td></tr></table>"
    assert extract_text(page(body)).split() == PARAGRAPHS


def test_rows_of_a_table_are_lines() -> None:
    table = "<table><tr><th>名称</th><th>数量</th></tr><tr><td>苹果</td><td>三个</td></tr></table>"
    paragraphs = "".join(f"<p>{p}</p>" for p in PARAGRAPHS)
    text = extract_text(page(f"<article>{paragraphs}{table}</article>"))
    assert text.split("\n") == [*PARAGRAPHS, "名称 数量", "苹果 三个"]


BODY = page("<p>汉字：改革开放以来我国经济发展</p>" * 3)


@pytest.mark.parametrize(
    ("content", "charset"),
    [
        (BODY.encode(), None),
        (BODY.encode("utf-8-sig"), None),
        (BODY.encode(), "gb2312"),
        (BODY.encode("gb18030"), "GB2312"),
        (BODY.encode("big5hkscs", "ignore"), "big5"),
        (BODY.encode("gb18030"), "iso-8859-1"),
        (BODY.encode("gb18030"), "no-such-encoding"),
        (BODY.encode("gb18030"), "rot13"),
        (BODY.encode("gb18030"), None),
        (page("汉字", '<meta charset="gbk">').encode("gbk"), None),
        (page("汉字", "<META http-equiv=Content-Type content='text/html; charset=gb2312'>").encode("gbk"), "latin-1"),
        (BODY.encode("utf-16-le"), "utf-16-le"),
    ],
)
def test_encodings(content: bytes, charset: str | None) -> None:
    text = decode_page(content, charset)
    assert "\ufffd" not in text
    assert "汉字" in text or charset == "big5"
    assert text.startswith("<html>")


def test_a_page_that_is_cut_off_inside_a_character_is_utf8() -> None:
    assert decode_page(BODY.encode()[: BODY.encode().index("汉".encode()) + 2], "gbk").endswith("<p>")


def test_what_gives_no_text_is_noted() -> None:
    assert read(b"")[1].counts == {}
    for content, cause in [
        (b"<html><body><p>English only</p></body></html>", NO_HANZI),
        ("<html><head><title>标题</title></head><body></body></html>".encode(), NO_EXTRACT),
    ]:
        found, troubles = read(content)
        assert found == []
        assert troubles.to_json() == {cause: {"count": 1, "places": ["page 1"]}}


def test_broken_bytes_are_noted() -> None:
    content = page("".join(f"<p>{p}</p>" for p in PARAGRAPHS), '<meta charset="utf-8">').encode()
    found, troubles = read(content.replace("天气".encode(), "天气".encode()[:-1]))
    assert "\ufffd" in found[0]
    assert troubles.counts == {BROKEN_ENCODING: 1}


def test_a_page_that_is_too_long() -> None:
    troubles = Troubles()
    blocks = iter(["字".encode() * (1 << 16)] * (PAGE_BYTES // (3 << 16) + 1))
    assert list(read_html(blocks, lambda number: f"page {number}", troubles)) == []
    assert troubles.counts == {LONG_PAGE: 1}


def test_a_page_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(text: str) -> str:
        start = time.process_time()
        while time.process_time() < start + 60:
            pass
        return text

    monkeypatch.setattr(reader, "_SECONDS", 0.05)
    monkeypatch.setattr(reader, "extract_text", compute)
    found, troubles = read("<p>汉字</p>".encode())
    assert found == []
    assert troubles.counts == {SLOW: 1}


def test_a_failure_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> str:
        raise RecursionError

    monkeypatch.setattr(reader, "extract_text", fail)
    assert read("<p>汉字</p>".encode())[1].places == {FAILED: ["page 1 (RecursionError)"]}


def test_pages_are_read_in_other_threads_too() -> None:
    found: list[str] = []
    content = page("".join(f"<p>{p}</p>" for p in PARAGRAPHS)).encode()
    thread = threading.Thread(target=lambda: found.extend(read(content)[0]))
    thread.start()
    thread.join()
    assert found == ["\n".join(PARAGRAPHS)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_pages_give_text_or_a_note(data: st.DataObject) -> None:
    content = page("".join(f"<p>{p}</p>" for p in PARAGRAPHS)).encode()
    found, troubles = read(data.draw(damaged(content)))
    assert all(text.strip() and "\x00" not in text for text in found)
    "".join(found).encode()
    assert len(found) + (troubles.counts.total() - troubles.counts[BROKEN_ENCODING]) <= 1


def test_nested_tags_stop_no_worker() -> None:
    for tag in ("div", "span", "table"):
        found, troubles = read((f"<{tag}>" * 30_000 + "字" * 300).encode())
        assert len(found) + troubles.counts.total() == 1
