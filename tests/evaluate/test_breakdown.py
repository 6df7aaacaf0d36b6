"""Tallies by class against counts that a person can add up."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hzlm.decode.converter import Source
from hzlm.evaluate.breakdown import Answer, Tally, answers_of, break_down
from hzlm.evaluate.homophones import SHOWN, Confusion, worst_homophones
from hzlm.vocabulary import Vocabulary

# zhong: 中 and 种; shi: six; 中 has two readings that text shows, 种 one, and one of the dictionary alone
READINGS = {
    "中": {"zhong1": 6, "zhong4": 1},
    "种": {"zhong3": 5, "zhong4": 0},
    **{hanzi: {"shi4": 1} for hanzi in "是事市式室势"},
    "我": {"wo3": 1},
}
VOCABULARY = Vocabulary((*READINGS, "，"), READINGS)


def source_of(*tokens: str) -> Source:
    literals = tuple(token[4:] if token.startswith("lit:") else None for token in tokens)
    return Source(np.array([VOCABULARY.id_of(token) for token in tokens], dtype=np.int64), literals)


def answer(right: str, given: str, token: str, length: int = 3) -> Answer:
    return Answer(right, given, VOCABULARY.id_of(token), length)


def test_only_what_is_asked_for_is_an_answer() -> None:
    source = source_of("syl:zhong", "lit:，", "syl:shi4", "lit:我")
    assert list(answers_of(source, "中，事我", "种，事我")) == [
        answer("中", "种", "syl:zhong", 4),
        answer("事", "事", "syl:shi4", 4),
    ]


def test_context_is_no_answer() -> None:
    whole = source_of("lit:我", "lit:，", "syl:zhong", "lit:，")
    assert list(answers_of(Source(whole.ids, whole.literals[2:], context=2), "中，", "种，")) == [
        answer("中", "种", "syl:zhong", 2)
    ]


def test_literals_of_several_characters_are_stepped_over() -> None:
    source = Source(np.array([5, 6, 7, VOCABULARY.id_of("syl:wo")]), ("GPT", "", "é", None))
    assert list(answers_of(source, "GPTé我", "GPTé中")) == [answer("我", "中", "syl:wo", 5)]


def test_classes_by_hand() -> None:
    given = [
        answer("中", "种", "syl:zhong", 5),
        answer("中", "中", "syl:zhong1", 6),
        answer("种", "种", "key:zh", 10),
        answer("是", "是", "syl:shi4", 20),
        answer("你", "□", "[UNK]", 40),
        answer("我", "我", "[MASK]", 41),
        answer("我", "我", "lit:中", 41),
    ]
    assert break_down(given, VOCABULARY) == {
        "homophones": {
            "0": Tally(0, 1),
            "1": Tally(2, 2),
            "2-5": Tally(1, 2),
            "6-20": Tally(2, 2),  # shi4, and [MASK] with all ten targets
        },
        "polyphony": {"one reading": Tally(4, 4), "several readings": Tally(1, 2), "no known reading": Tally(0, 1)},
        "length": {
            "1-5": Tally(0, 1),
            "6-10": Tally(2, 2),
            "11-20": Tally(1, 1),
            "21-40": Tally(0, 1),
            ">40": Tally(2, 2),
        },
        "kind": {
            "syllable": Tally(0, 1),
            "toned": Tally(2, 2),
            "key": Tally(1, 1),
            "mask": Tally(1, 1),
            "hanzi": Tally(1, 1),
            "unknown": Tally(0, 1),
        },
    }


ANSWERS = st.lists(
    st.builds(
        answer,
        st.sampled_from("中种是你"),
        st.sampled_from("中种是"),
        st.sampled_from(["syl:zhong", "syl:zhong1", "syl:shi", "key:s", "[MASK]", "[UNK]", "lit:我"]),
        st.integers(1, 60),
    ),
    max_size=30,
)


@given(ANSWERS, ANSWERS)
def test_classes_add_up_and_sets_can_be_summed(first: list[Answer], second: list[Answer]) -> None:
    one, two, both = (break_down(answers, VOCABULARY) for answers in (first, second, first + second))
    for division, classes in both.items():
        assert sum(tally.total for tally in classes.values()) == len(first) + len(second)
        assert sum(tally.right for tally in classes.values()) == sum(a.right == a.given for a in first + second)
        for name, tally in classes.items():
            parts = [found[division].get(name, Tally(0, 0)) for found in (one, two)]
            assert tally == Tally(sum(p.right for p in parts), sum(p.total for p in parts))


def test_worst_homophones_by_hand() -> None:
    given = [
        *[answer("中", "种", "syl:zhong")] * 2,
        answer("中", "种", "syl:zhong4"),
        *[answer("中", "中", "syl:zhong")] * 5,
        answer("是", "事", "syl:shi"),
        answer("，", "我", "[MASK]"),
    ]
    assert worst_homophones(given, VOCABULARY) == (
        Confusion("中", "种", "zhong", 2, 2 / 8),
        Confusion("中", "种", "zhong4", 1, 1 / 8),
        Confusion("是", "事", "shi", 1, 1.0),
        Confusion("，", "我", "[MASK]", 1, 1.0),
    )


@given(ANSWERS)
def test_worst_homophones_come_first(answers: list[Answer]) -> None:
    found = worst_homophones(answers, VOCABULARY)
    wrong = Counter((a.right, a.given, a.source_id) for a in answers if a.right != a.given)
    assert [confusion.count for confusion in found] == sorted(wrong.values(), reverse=True)[:SHOWN]
    assert all(confusion.right != confusion.given and 0 < confusion.share <= 1 for confusion in found)
