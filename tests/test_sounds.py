"""Fuzzy sounds and typing slips: hand-made examples, and what holds for all."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from hzlm.data_config import FUZZY_PAIRS
from hzlm.pinyin import SYLLABLES
from hzlm.sounds import fuzzy_alternatives, slip_alternatives

FUZZY = fuzzy_alternatives(FUZZY_PAIRS)
SLIPS = slip_alternatives()


@pytest.mark.parametrize(
    ("syllable", "others"),
    [
        ("zhang", "zan zang zhan"),
        ("nv", "lv"),
        ("lan", "lang nan nang ran rang"),
        ("nan", "lan lang nang"),
        ("fu", "hu"),
        ("feng", "fen hen heng"),
        ("jian", "jiang"),
        ("guan", "guang"),
        ("yan", "yang"),
        ("wang", "wan"),
        ("wen", "weng"),
        ("yin", "ying"),
        ("hui", ""),  # there is no fui
        ("fei", "hei"),
        ("fo", ""),  # there is no ho
        ("juan", ""),
        ("yuan", ""),
        ("hng", ""),
        ("er", ""),
    ],
)
def test_examples_of_fuzzy_sounds(syllable: str, others: str) -> None:
    assert FUZZY.get(syllable, ()) == tuple(others.split())


@given(st.sets(st.sampled_from(FUZZY_PAIRS)))
def test_fuzzy_sounds_are_symmetric_and_never_the_syllable_itself(pairs: set[str]) -> None:
    table = fuzzy_alternatives(sorted(pairs))
    assert all(others and set(others) <= set(SYLLABLES) for others in table.values())
    for syllable, others in table.items():
        assert syllable not in others
        assert all(syllable in table[other] for other in others)
    assert table.keys() <= FUZZY.keys()


def test_each_pair_confuses_its_own_sounds_alone() -> None:
    assert fuzzy_alternatives([]) == {}
    assert fuzzy_alternatives(["n-l"])["nan"] == ("lan",)
    assert fuzzy_alternatives(["an-ang"])["nan"] == ("nang",)
    assert "lian" not in fuzzy_alternatives(["an-ang", "uan-uang"])
    assert all(fuzzy_alternatives([pair]) for pair in FUZZY_PAIRS)


@pytest.mark.parametrize(
    ("syllable", "slip"),
    [
        ("zhong", "zong"),  # a key left out
        ("hao", "hai"),  # o and i are neighbours
        ("ni", "bi"),  # n and b
        ("guo", "gou"),  # two keys swapped
        ("an", "na"),
        ("shi", "sui"),  # h and u touch
        ("na", "nq"),
        ("hao", "hap"),
        ("wo", "bo"),  # far apart
        ("hao", "hoa"),
    ],
)
def test_examples_of_slips(syllable: str, slip: str) -> None:
    close = slip in SYLLABLES and (syllable, slip) != ("wo", "bo")
    assert (slip in SLIPS.get(syllable, ())) == close


def test_slips_are_one_edit_that_adds_no_key() -> None:
    """One edit by RapidFuzz's optimal string alignment: a substitution, a swap of neighbours, or one key left out."""
    assert len(SLIPS) > 400
    for syllable, others in SLIPS.items():
        assert others == tuple(sorted(set(others) & set(SYLLABLES) - {syllable}))
        for other in others:
            assert OSA.distance(syllable, other) == 1
            assert len(other) in (len(syllable), len(syllable) - 1)


def test_what_is_left_out_or_swapped_is_complete() -> None:
    for syllable in SYLLABLES:
        for other in SYLLABLES:
            edits = OSA.distance(syllable, other) == 1
            if edits and len(other) == len(syllable) - 1:
                assert other in SLIPS[syllable]
            if edits and syllable != other and sorted(syllable) == sorted(other):
                assert other in SLIPS[syllable]


def test_a_key_slips_the_way_it_slips_back() -> None:
    same_length = {(one, other) for one, others in SLIPS.items() for other in others if len(one) == len(other)}
    assert same_length == {(other, one) for one, other in same_length}


def test_no_syllable_has_a_key_struck_twice() -> None:
    """So such a slip never gives a syllable."""
    assert not any(one == next_one for syllable in SYLLABLES for one, next_one in pairwise(syllable))
