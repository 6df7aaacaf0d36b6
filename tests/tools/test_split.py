import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.tools.split import split_text

TEXT = st.text("中国人ab1 \n，、：。！？；…”）,.;!?")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天好。明天呢？！好；走", ["今天好。", "明天呢？！", "好；", "走"]),
        ("他说：“好。”然后（真的！）走了……", ["他说：“好。”", "然后（真的！）", "走了……"]),
        ("上一行\n下一行。\n\n", ["上一行", "下一行。"]),
        ("圆周率是3.14!ok;", ["圆周率是3.14!", "ok;"]),
        (" 前后有空 ", ["前后有空"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert list(split_text(text, "sentence", 100)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天好，明天呢？“好”", ["今天好", "明天呢", "好"]),
        ("约翰·史密斯 来了\n再见", ["约翰", "史密斯", "来了", "再见"]),
        ("涨3.5%，约1,000人，10:30开", ["涨3.5%", "约1,000人", "10:30开"]),
        ("e-mail：a.b@c", ["e-mail", "a.b", "c"]),
        ("。，", []),
    ],
)
def test_clauses(text: str, expected: list[str]) -> None:
    assert list(split_text(text, "clause", 100)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天好，明天呢？“好”", ["今天好明天呢", "好"]),
        ("约翰·史密斯 来了\n再见", ["约翰史密斯来了", "再见"]),
        ("约1,000人，10:30开。", ["约1,000人10:30开"]),
        ("……！", []),
    ],
)
def test_utterances(text: str, expected: list[str]) -> None:
    assert list(split_text(text, "utterance", 100)) == expected


@given(TEXT, st.integers(1, 12))
def test_an_utterance_is_the_clauses_of_a_sentence(text: str, max_length: int) -> None:
    sentences = split_text(text, "sentence", max_length)
    joined = ["".join(split_text(sentence, "clause", max_length)) for sentence in sentences]
    assert list(split_text(text, "utterance", max_length)) == list(filter(None, joined))


def test_long_sentences_are_cut_at_inner_punctuation() -> None:
    text = "一二三，四五六、七八九十：一二三四五六七八九十，完。"
    assert list(split_text(text, "sentence", 8)) == ["一二三，四五六、", "七八九十：", "一二三四五六七八九十，", "完。"]
    assert list(split_text(text, "sentence", 26)) == [text]


@given(TEXT, st.integers(1, 12))
def test_sentences_lose_nothing_but_white_space(text: str, max_length: int) -> None:
    sentences = list(split_text(text, "sentence", max_length))
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() and "\n" not in sentence for sentence in sentences)
    for sentence in sentences:
        if len(sentence) > max_length:
            # Nothing inside allowed a cut.
            assert not re.search("[，、：,][^，、：,”）]", sentence)


@given(TEXT)
def test_sentences_end_where_they_should(text: str) -> None:
    for sentence in split_text(text, "sentence", 1000):
        assert not re.search("[。！？!?；;…][^。！？!?；;…”）]", sentence)


@given(TEXT, st.integers(1, 12))
def test_clauses_are_runs_without_chinese_punctuation_and_white_space(text: str, max_length: int) -> None:
    clauses = list(split_text(text, "clause", max_length))
    assert not set("".join(clauses)) & set(" \n，、：。！？；…”）;!?")
    hanzi = re.sub("[^中国人]", "", text)
    assert re.sub("[^中国人]", "", "".join(clauses)) == hanzi
