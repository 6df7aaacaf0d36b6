import itertools
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.tools.filters import (
    BLOCKED,
    FEW_HANZI,
    REPEATED_LINES,
    REPEATED_NGRAMS,
    TOO_SHORT,
    FilterConfig,
    fault_of,
    repeated_lines,
    repeated_ngrams,
)

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "dev"
PROSE = "".join(chr(0x4E00 + i * i % 9973) for i in range(300))


@pytest.mark.parametrize(
    "text", ["好", "嗯，哈哈哈哈哈哈哈哈", "iPhone 4S挺好", "哈哈\n哈哈\n哈哈", "3号", PROSE, "好" * 199]
)
def test_ordinary_text_is_kept(text: str) -> None:
    assert fault_of(text, FilterConfig()) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", TOO_SHORT),
        (" \n", TOO_SHORT),
        ("OK!", FEW_HANZI),
        ("Only one hanzi 字 in English text, which is not enough", FEW_HANZI),
        ("\n".join(["点击这里查看更多的精彩内容"] * 10 + [PROSE[:150]]), REPEATED_LINES),
        ("，".join(["点击这里查看更多的精彩内容"] * 30), REPEATED_NGRAMS),
    ],
)
def test_faults(text: str, fault: str) -> None:
    assert fault_of(text, FilterConfig()) == fault


def test_settings_move_the_bounds() -> None:
    assert fault_of("好 的", FilterConfig(least_characters=2)) is None
    assert fault_of("好 的", FilterConfig(least_characters=3)) == TOO_SHORT
    assert fault_of("好的ab", FilterConfig(least_hanzi_share=0.5)) is None
    assert fault_of("好的abc", FilterConfig(least_hanzi_share=0.5)) == FEW_HANZI
    assert fault_of("加微信看", FilterConfig(blocked=("广告", "微信"))) == BLOCKED
    assert fault_of("好" * 500, FilterConfig(most_repeated_ngrams=1.0)) is None
    assert fault_of("\n".join([PROSE] * 3), FilterConfig(most_repeated_lines=1.0)) == REPEATED_NGRAMS


@given(st.lists(st.sampled_from(["", "一", "一二", "三四五"]), max_size=30))
def test_repeated_lines(lines: list[str]) -> None:
    again = sum(len(line) for place, line in enumerate(lines) if line in lines[:place])
    assert repeated_lines("\n".join(lines)) == pytest.approx(again / max(sum(map(len, lines)), 1))


@given(st.text("一二", max_size=60) | st.lists(st.sampled_from(["一二三四五六七八九十", "甲乙丙丁"])).map("".join))
def test_repeated_ngrams(text: str) -> None:
    ngrams = [text[start : start + 16] for start in range(len(text) - 15)]
    assert repeated_ngrams(text) == pytest.approx((len(ngrams) - len(set(ngrams))) / len(ngrams) if ngrams else 0)


def test_the_defaults_keep_a_corpus() -> None:
    if not CORPUS.is_dir():
        pytest.skip("the shared corpus is not here")
    documents = [
        document
        for path in sorted(CORPUS.iterdir())
        for document in (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8").read().split("\n\n")
        if document.strip()
    ]
    assert len(documents) > 100
    faults = [(fault_of(text, FilterConfig()), text) for text in documents]
    assert list(itertools.islice((pair for pair in faults if pair[0]), 3)) == []
