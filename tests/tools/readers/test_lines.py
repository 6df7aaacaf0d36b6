import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.tools.readers import lines
from hzlm.tools.readers.lines import BROKEN_ENCODING, LONG_LINE, NULL_BYTES, read_lines, split_lines
from hzlm.tools.readers.troubles import Troubles


def blocks_of(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def place(number: int) -> str:
    return f"line {number}"


@given(content=st.lists(st.sampled_from([b"\n", b"a", b"bcd", b"\r"])).map(b"".join), size=st.integers(1, 9))
def test_lines_of_any_blocks(content: bytes, size: int) -> None:
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert list(split_lines(blocks_of(content, size), 1000)) == [(line, True) for line in expected]


TEXT = st.text(st.sampled_from("中国。！”a \n😀…"), max_size=200)


@given(text=TEXT, size=st.integers(1, 9), longest=st.integers(16, 40))
def test_long_lines_are_cut_and_whole(text: str, size: int, longest: int) -> None:
    found: list[bytes] = []
    open_line = False
    for part, ended in split_lines(blocks_of(text.encode(), size), longest):
        part.decode()  # no character is broken
        assert len(part) <= longest + size
        found.append(found.pop() + part if open_line else part)
        open_line = not ended
    expected = text.encode().split(b"\n")
    assert found == expected[:-1] + [last for last in expected[-1:] if last]


def test_a_long_line_is_cut_behind_a_sentence() -> None:
    text = "这是一句话，不长也不短。" * 100_000
    troubles = Troubles()
    found = list(read_lines(blocks_of(text.encode(), 1 << 18), place, troubles))
    assert "".join(line for _, line in found) == text
    assert {number for number, _ in found} == {1}
    assert all(line.endswith("。") and (1 << 20) - 99 < len(line.encode()) <= 1 << 20 for _, line in found[:-1])
    assert troubles.to_json() == {LONG_LINE: {"count": 1, "places": ["line 1"]}}


def test_a_long_line_without_sentences_is_cut_between_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    found = [line for _, line in read_lines(blocks_of(("一" * 200).encode(), 50), place, Troubles())]
    assert "".join(found) == "一" * 200
    assert len(found) > 5


def test_broken_bytes_and_null_bytes_are_noted_with_their_lines() -> None:
    content = "第一行\n第\x00二\x00行\r\n".encode() + b"\xff\xfe\n" + "第四".encode()[:-1] + b"\n\n" + "第六行".encode()
    troubles = Troubles()
    found = list(read_lines(blocks_of(content, 4), place, troubles))
    assert found[:2] == [(1, "第一行"), (2, "第二行")]
    assert found[2] == (3, "\ufffd\ufffd")
    assert found[3:] == [(4, "第\ufffd"), (5, ""), (6, "第六行")]
    assert troubles.to_json() == {
        BROKEN_ENCODING: {"count": 2, "places": ["line 3", "line 4"]},
        NULL_BYTES: {"count": 1, "places": ["line 2"]},
    }


@given(content=st.binary(max_size=60), size=st.integers(1, 9))
def test_any_bytes_are_read(content: bytes, size: int) -> None:
    """As Python itself decodes them, line by line."""
    troubles = Troubles()
    found = [line for _, line in read_lines(blocks_of(content, size), place, troubles)]
    expected = [line.decode("utf-8", "replace") for line in content.split(b"\n")]
    if not content or content.endswith(b"\n"):
        expected.pop()
    assert troubles.counts[BROKEN_ENCODING] == sum("\ufffd" in line for line in expected)
    assert troubles.counts[NULL_BYTES] == sum("\x00" in line for line in expected)
    assert found == [re.sub("\r$", "", line.replace("\x00", "")) for line in expected]
