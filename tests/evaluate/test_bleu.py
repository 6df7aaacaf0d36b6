"""BLEU by sacrebleu against its formula in float64."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.evaluate.bleu import character_bleu

PAIRS = st.lists(
    st.tuples(st.text("甲乙丙，", min_size=1, max_size=9), st.text("甲乙丙，", max_size=9)), min_size=1, max_size=5
)


def bleu(references: Sequence[str], hypotheses: Sequence[str], order: int) -> float:
    """BP exp(sum w_i log p_i), w_i = 1 / order, BP = 1 where c > r, else exp(1 - r / c); 0 to 1."""

    def ngrams(text: str, n: int) -> Counter[str]:
        return Counter(text[start : start + n] for start in range(len(text) - n + 1))

    c, r = sum(map(len, hypotheses)), sum(map(len, references))
    if c == 0:
        return 0.0
    log_precisions = 0.0
    for n in range(1, order + 1):
        pairs = [(ngrams(h, n), ngrams(ref, n)) for ref, h in zip(references, hypotheses, strict=True)]
        clipped = sum(min(count, right[gram]) for found, right in pairs for gram, count in found.items())
        candidates = sum(sum(found.values()) for found, _ in pairs)
        if clipped == 0:
            return 0.0
        log_precisions += math.log(clipped / candidates) / order
    return (1.0 if c > r else math.exp(1 - r / c)) * math.exp(log_precisions)


@given(PAIRS)
def test_it_is_the_formula(pairs: list[tuple[str, str]]) -> None:
    """Also where an order has no match, and where hypotheses are shorter or longer."""
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    expected = [100 * bleu(references, hypotheses, order) for order in (1, 2, 3, 4)]
    assert character_bleu(references, hypotheses) == pytest.approx(expected, abs=1e-9)


def test_one_sentence_by_hand() -> None:
    # 我爱背景天安门 for 我爱北京天安门: 5/7 characters, 3/6 pairs, 1/5 triples and no quadruple are right
    found = character_bleu(["我爱北京天安门"], ["我爱背景天安门"])
    assert found.bleu1 == pytest.approx(100 * 5 / 7)
    assert found.bleu2 == pytest.approx(100 * (5 / 7 * 3 / 6) ** (1 / 2))
    assert found.bleu3 == pytest.approx(100 * (5 / 7 * 3 / 6 * 1 / 5) ** (1 / 3))
    assert found.bleu4 == 0.0


def test_the_counts_of_all_sentences_are_pooled() -> None:
    # one wrong last character in ten: 9/10, 7/8, 5/6 and 3/4
    found = character_bleu(["一二三四五", "六七八九十"], ["一二三四五", "六七八九石"])
    assert found.bleu4 == pytest.approx(100 * math.prod((9 / 10, 7 / 8, 5 / 6, 3 / 4)) ** 0.25)


def test_what_is_missing_is_paid_for() -> None:
    assert character_bleu(["甲乙丙丁戊己"], ["甲乙丙丁"]).bleu4 == pytest.approx(100 * math.exp(1 - 6 / 4))
