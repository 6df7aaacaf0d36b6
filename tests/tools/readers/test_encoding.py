import codecs
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.tools.readers.encoding import convert_to_utf8, encoding_of

TEXT = """改革开放以来，我国经济社会发展取得了很大的成就，人民的生活水平不断提高。
今天天气不错，我们一起去公园里走一走吧！他说这是他一生中最高兴的一天，因为他终于见到了多年没有见面的朋友。
这本书写得很好，内容丰富，看了以后学到不少东西，推荐给大家。
"""
TRADITIONAL = """改革開放以來，我國經濟社會發展取得了很大的成就，人民的生活水平不斷提高。
今天天氣不錯，我們一起去公園裡走一走吧！他說這是他一生中最高興的一天，因為他終於見到了多年沒有見面的朋友。
這本書寫得很好，內容豐富，看了以後學到不少東西，推薦給大家。
"""


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (TEXT, "gb18030"),
        (TEXT, "gb2312"),
        (TRADITIONAL, "gbk"),
        (TRADITIONAL, "big5"),
        (TEXT, "utf-16-le"),
        (TEXT, "utf-16-be"),
        (TEXT, "utf-16"),
        (TEXT, "utf-32"),
        (TEXT, "utf-8"),
        (TEXT, "utf-8-sig"),
        ("plain letters\n", "ascii"),
    ],
)
@pytest.mark.parametrize("times", [1, 50])
def test_encodings_of_chinese(text: str, encoding: str, times: int) -> None:
    content = (text * times).encode(encoding)
    found = encoding_of(content)
    assert found is not None
    converted = b"".join(convert_to_utf8(iter([content[:7], content[7:]]), found)).decode()
    assert converted.removeprefix("\ufeff") == text * times


def test_utf8_with_broken_parts_stays_utf8() -> None:
    content = bytearray((TEXT * 20).encode())
    for place in random.Random(1).sample(range(len(content)), 100):
        content[place] = 0xFF
    assert encoding_of(bytes(content)) == "utf-8"
    assert encoding_of(b"letters only, " * 20 + b"\xe9 and one of Latin-1") == "utf-8"
    assert encoding_of(TEXT.encode()[:-2]) == "utf-8"


@pytest.mark.parametrize("encoding", ["shift_jis", "euc_jp"])
def test_japanese_is_not_taken_for_chinese(encoding: str) -> None:
    text = "これは日本語の文章です。きょうはとてもいい天気ですから、みんなで公園へ行きましょう。" * 5
    assert encoding_of(text.encode(encoding)) is None


def test_what_is_no_text_has_no_encoding() -> None:
    assert encoding_of(b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(10_000)) is None


@given(st.binary(max_size=200))
def test_any_bytes_have_an_encoding_that_python_knows_or_none(content: bytes) -> None:
    found = encoding_of(content)
    if found is not None:
        codecs.lookup(found)
