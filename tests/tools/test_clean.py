import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.tools.clean import Cleaner

CLEANER = Cleaner()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("漢語、臺灣與電腦", "汉语、台湾与电脑"),
        ("頭髮發展，皇后後來", "头发发展，皇后后来"),
        ("乾隆乾杯", "乾隆干杯"),
        ("ＡＢｃ１２３", "ABc123"),
        ("，。！？：；（）《》“”…", "，。！？：；（）《》“”…"),
        ("％℃①²Ⅷ½", "％℃①²Ⅷ½"),
        ("ｶﾅ", "カナ"),
        ("\uf900\ufa0e", "岂\ufa0e"),  # a compatibility hanzi, and one that is a hanzi of its own
        ("cafe\u0301", "café"),
        ("中 国\u3000人\t民", "中国人民"),
        ("用 GDP 和 hello   world ！", "用GDP和hello world！"),
        ("“ 你 好 ” ， 3.5 米", "“你好”，3.5米"),
        ("中\u200b国\ufeff\x07\x7f\u202e人", "中国人"),
        ("葛\U000e0100城\ufe0f", "葛城"),
        ("一\r二\u2028三\x85四\v五", "一\n二\n三\n四\n五"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert CLEANER.clean(text) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_clean_text_is(text: str) -> None:
    clean = CLEANER.clean(text)
    assert all(c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") for c in clean)
    assert all(c == " " for c in clean if unicodedata.category(c) == "Zs")
    assert "  " not in clean


@given(st.text("，。！？：；（）、“”‘’《》…—·【】～％＋"))
def test_chinese_punctuation_stays(text: str) -> None:
    assert CLEANER.clean(text) == text


@given(st.text("０１２３４５６７８９ＡＢＺａｂｚ"))
def test_full_width_letters_and_digits_become_half_width(text: str) -> None:
    assert CLEANER.clean(text) == "".join(chr(ord(c) - 0xFEE0) for c in text)
