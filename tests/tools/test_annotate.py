import logging
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pypinyin import Style, pinyin

from hzlm.pinyin import TONED_SYLLABLES, is_hanzi, parse_syllable
from hzlm.tools.annotate import NO_READING, TYPED_AS, Annotator, typed_reading

ANNOTATOR = Annotator()
WORDS = [
    "银行",
    "行长",
    "高兴地",
    "地",
    "说",
    "项目",
    "的",
    "了",
    "卡拉OK",
    "重庆",
    "一会儿",
    "女儿",
    "3.5",
    "GDP",
    "。",
]
MIXED_TEXT = st.lists(
    st.sampled_from(WORDS)
    | st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5)
    | st.text("，。？a1 Ωの", max_size=2)
).map("".join)


def readings_of(sentence: str) -> str:
    annotation = ANNOTATOR.annotate(sentence)
    assert annotation is not None
    return " ".join(TONED_SYLLABLES[i] if i >= 0 else "-" for i in annotation.readings)


def words_of(sentence: str) -> list[str]:
    annotation = ANNOTATOR.annotate(sentence)
    assert annotation is not None
    borders = [*annotation.word_starts.nonzero()[0].tolist(), len(sentence)]
    return [sentence[start:end] for start, end in pairwise(borders)]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("银行行长", "yin2 hang2 hang2 zhang3"),
        ("项目的土地", "xiang4 mu4 de5 tu3 di4"),  # a phrase 目的 reaches over the border of two words
        ("为了无数人", "wei4 le5 wu2 shu4 ren2"),
        ("绿色，女儿", "lv4 se4 - nv3 er2"),
        ("唱卡拉OK3次", "chang4 ka3 la1 - - - ci4"),
        ("嗯〇", "en2 ling2"),
        ("更好地服务", "geng4 hao3 de5 fu2 wu4"),
        ("多地发生", "duo1 di4 fa1 sheng1"),
        ("土地。", "tu3 di4 -"),
    ],
)
def test_readings(sentence: str, expected: str) -> None:
    assert readings_of(sentence) == expected


def test_words() -> None:
    assert words_of("我们在北京的GDP是3。") == ["我们", "在", "北京", "的", "GDP", "是", "3", "。"]


@settings(max_examples=40, deadline=None)
@given(MIXED_TEXT)
@example("")
@example("中 国")
def test_each_hanzi_has_one_reading_of_its_own(sentence: str) -> None:
    annotation = ANNOTATOR.annotate(sentence)
    assert annotation is not None
    assert len(annotation.readings) == len(annotation.word_starts) == len(sentence)
    for character, reading in zip(sentence, annotation.readings, strict=True):
        assert (reading == NO_READING) is not is_hanzi(character)
        if is_hanzi(character):
            known = pinyin(character, style=Style.NORMAL, heteronym=True)[0]
            syllables = {TYPED_AS.get(syllable, syllable) for syllable in (parse_syllable(k)[0] for k in known)}
            assert TONED_SYLLABLES[reading][:-1] in syllables
    assert not len(sentence) or annotation.word_starts[0]


def test_a_hanzi_without_a_reading_spoils_its_sentence() -> None:
    unread = "\U0003134a"
    assert ANNOTATOR.annotate(f"中{unread}国") is None
    assert ANNOTATOR.annotate(f"中国，{unread}。") is None
    assert ANNOTATOR.annotate("中国") is not None


@pytest.mark.parametrize(
    ("reading", "expected"),
    [("zhōng", "zhong1"), ("zhong1", "zhong1"), ("de", "de5"), ("ǹg", "en4"), ("ng4", "en4"), ("ê̄", "e1"), ("x", None)],
)
def test_typed_reading(reading: str, expected: str | None) -> None:
    assert typed_reading(reading) == expected


def test_jieba_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.NOTSET, logger="root"):
        Annotator().annotate("我们在北京")
    assert capfd.readouterr() == ("", "")
