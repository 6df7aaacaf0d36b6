"""Every metric against values worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.evaluate import metrics

REFERENCES = ["我爱北京，", "你好"]
HYPOTHESES = ["我爱背景，", "你号"]
COUNTED = [[True, True, True, True, False], [True, True]]


def test_character_accuracy_leaves_literals_out() -> None:
    assert metrics.character_accuracy(REFERENCES, HYPOTHESES, COUNTED) == pytest.approx(3 / 6)
    assert metrics.character_accuracy(["，"], ["，"], [[False]]) == 1.0


def test_character_error_rate_sums_before_it_divides() -> None:
    # 2 of 5 and 1 of 2 are wrong: 3 of 7, not the mean of 2/5 and 1/2.
    assert metrics.character_error_rate(REFERENCES, HYPOTHESES) == pytest.approx(3 / 7)


def test_character_error_rate_aligns() -> None:
    # One deletion and one insertion, where five positions differ.
    assert metrics.character_error_rate(["一二三四五"], ["二三四五六"]) == pytest.approx(2 / 5)


def test_exact_match() -> None:
    assert metrics.exact_match(["一", "二二", "三"], ["一", "二三", "三"]) == pytest.approx(2 / 3)


def test_hit_rate_counts_the_first_k() -> None:
    candidates = [["甲", "乙", "丙"], ["丙", "乙", "甲"]]
    rates = [metrics.hit_rate(["甲", "甲"], candidates, k) for k in (1, 2, 3, 10)]
    assert rates == [0.5, 0.5, 1.0, 1.0]


def test_score_puts_them_together() -> None:
    found = metrics.score(REFERENCES, [["我爱背景，", "我爱北京，"], ["你号", "拟好"]], COUNTED, ranked=True)
    assert (found.sentences, found.characters) == (2, 6)
    assert (found.char_accuracy, found.exact_match) == (0.5, 0.0)
    assert (found.top1, found.top5, found.top10) == (0.0, 0.5, 0.5)
    # characters 4 of 7, pairs 1 of 5 (我爱), no three in a row
    assert found.bleu1 == pytest.approx(400 / 7)
    assert found.bleu2 == pytest.approx(100 * (4 / 7 * 1 / 5) ** 0.5)
    assert (found.bleu3, found.bleu4) == (0, 0)


def test_a_single_answer_has_no_hit_rates() -> None:
    found = metrics.score(REFERENCES, [[text] for text in HYPOTHESES], COUNTED, ranked=False)
    assert (found.top1, found.top5, found.top10) == (None, None, None)


@given(st.lists(st.text("甲乙丙丁", min_size=4, max_size=8), min_size=1, max_size=5))
def test_a_perfect_system(references: list[str]) -> None:
    candidates = [[text, "甲"] for text in references]
    found = metrics.score(references, candidates, [[True] * len(text) for text in references], ranked=True)
    assert (found.char_accuracy, found.cer, found.exact_match) == (1, 0, 1)
    assert (found.top1, found.top5, found.top10) == (1, 1, 1)
    assert (found.bleu1, found.bleu2, found.bleu3, found.bleu4) == pytest.approx((100,) * 4)
