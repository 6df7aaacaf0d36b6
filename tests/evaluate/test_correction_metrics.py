"""Correction by the SIGHAN protocol: sentences worked out by hand, and the same definitions in terms of sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.evaluate.correction_metrics import Agreement, score_correction

# source, reference, hypothesis
BY_HAND = [
    ("我爱背京", "我爱北京", "我爱北京"),  # found and corrected
    ("我爱背景", "我爱北京", "我爱被京"),  # both found, one corrected
    ("我爱背景", "我爱北京", "我爱北景"),  # one found and corrected: no hit as a sentence
    ("我爱背京", "我爱北京", "你爱北京"),  # corrected, and a needless change: no hit as a sentence
    ("我爱背京", "我爱北京", "我爱背京"),  # missed
    ("我爱北京", "我爱北京", "我爱北京"),  # nothing to do, nothing done
    ("我爱北京", "我爱北京", "我爱背京"),  # a needless change
]


def test_by_hand() -> None:
    found = score_correction(*zip(*BY_HAND, strict=True))
    assert (found.sentences, found.characters) == (7, 28)
    assert found.sentence_detection == Agreement(hits=2, changed=5, wrong=5, needless=1)
    assert found.sentence_correction == Agreement(hits=1, changed=5, wrong=5, needless=1)
    # 7 errors; changed are 1 + 2 + 1 + 2 + 1 positions, two of them needlessly, one to a wrong character
    assert found.character_detection == Agreement(hits=5, changed=7, wrong=7, needless=2)
    assert found.character_correction == Agreement(hits=4, changed=7, wrong=7, needless=2)
    assert (found.sentence_detection.precision, found.sentence_detection.recall) == (2 / 5, 2 / 5)
    assert found.sentence_detection.f1 == 2 / 5
    assert found.sentence_detection.lenient_precision == 2 / 3
    assert found.sentence_detection.lenient_f1 == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))
    assert (found.false_positive_rate, found.untouched) == (1 / 2, 1 / 2)
    assert found.exact_match == 2 / 7


def test_a_system_that_does_nothing() -> None:
    found = score_correction(["背京", "北京"], ["北京", "北京"], ["背京", "北京"])
    for agreement in (found.sentence_detection, found.character_correction):
        assert (agreement.precision, agreement.recall, agreement.f1, agreement.lenient_precision) == (0, 0, 0, 0)
    assert (found.false_positive_rate, found.untouched, found.exact_match) == (0, 1, 0.5)


def test_versions_of_other_lengths_are_no_versions() -> None:
    with pytest.raises(ValueError, match="zip"):
        score_correction(["北京"], ["北京"], ["北"])


VERSIONS = st.lists(
    st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.text("甲乙丙", min_size=n, max_size=n)] * 3)),
    min_size=1,
    max_size=8,
)


def f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(VERSIONS)
def test_it_is_what_sets_of_edits_say(versions: list[tuple[str, str, str]]) -> None:
    """An edit is (sentence, position, character); a system's edits are compared with the right ones."""
    right = {(n, i, r[i]) for n, (s, r, _) in enumerate(versions) for i in range(len(s)) if r[i] != s[i]}
    done = {(n, i, h[i]) for n, (s, _, h) in enumerate(versions) for i in range(len(s)) if h[i] != s[i]}
    found = score_correction(*zip(*versions, strict=True))
    clean = set(range(len(versions))) - {n for n, *_ in right}
    touched = {n for n, *_ in done}

    def places(edits: set[tuple[int, int, str]]) -> set[tuple[int, ...]]:
        return {(n, i) for n, i, _ in edits}

    for edits_right, edits_done, characters, sentences in (
        (places(right), places(done), found.character_detection, found.sentence_detection),
        (right, done, found.character_correction, found.sentence_correction),
    ):
        both = edits_right & edits_done
        precision = len(both) / len(edits_done) if edits_done else 0.0
        recall = len(both) / len(edits_right) if edits_right else 0.0
        assert (characters.precision, characters.recall) == (precision, recall)
        assert characters.f1 == pytest.approx(f1(precision, recall))

        spoilt = {edit[0] for edit in edits_right ^ edits_done}
        hits = {edit[0] for edit in edits_right} - spoilt
        precision = len(hits) / len(touched) if touched else 0.0
        recall = len(hits) / (len(versions) - len(clean)) if right else 0.0
        assert (sentences.precision, sentences.recall) == (precision, recall)
        assert sentences.f1 == pytest.approx(f1(precision, recall))
        # the confusion matrix of 2014 and 2015: what is missed or spoilt is a false negative and nothing else
        true_positive, false_positive = len(hits), len(touched & clean)
        if true_positive + false_positive:
            assert sentences.lenient_precision == true_positive / (true_positive + false_positive)
        assert sentences.lenient_f1 == pytest.approx(f1(sentences.lenient_precision, recall))
        assert sentences.lenient_precision >= sentences.precision
    if clean:
        assert found.false_positive_rate == len(touched & clean) / len(clean)
        assert found.untouched == pytest.approx(len(clean - touched) / len(clean))
    else:
        assert found.false_positive_rate is found.untouched is None
    assert found.exact_match == sum(r == h for _, r, h in versions) / len(versions)
