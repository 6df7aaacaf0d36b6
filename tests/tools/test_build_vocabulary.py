from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hzlm.errors import UserError
from hzlm.tools.build_vocabulary import (
    PairCounts,
    VocabularyConfig,
    build_vocabulary,
    dictionary_readings,
    gb2312_level_1,
)
from hzlm.vocabulary import Vocabulary

COUNTS: PairCounts = {
    ("的", "de5"): 50,
    ("的", "di4"): 2,
    ("，", None): 30,
    ("行", "xing2"): 10,
    ("行", "hang2"): 5,
    ("A", None): 2,
    ("中", "zhong1"): 1,
}


def build(counts: PairCounts = COUNTS, **settings: Any) -> Vocabulary:
    return build_vocabulary(counts, VocabularyConfig(**{"gb2312": False, **settings}), {})


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [(1.0, "的，行A中"), (0.99, "的，行A"), (0.97, "的，行"), (0.96, "的，行"), (0.82, "的，"), (0.01, "的")],
)
def test_the_fewest_characters_that_cover(coverage: float, expected: str) -> None:
    assert "".join(build(coverage=coverage).characters) == expected


@pytest.mark.parametrize(("size", "expected"), [(1, "的"), (3, "的，行"), (5, "的，行A中"), (9, "的，行A中")])
def test_the_most_frequent_characters(size: int, expected: str) -> None:
    assert "".join(build(size=size).characters) == expected


def test_coverage_is_very_high_where_nothing_is_said() -> None:
    counts = {("的", None): 9_999_000, ("行", None): 999, ("中", None): 1}
    assert build(counts).characters == ("的",)
    assert build({**counts, ("行", None): 1002}).characters == ("的", "行")


@given(
    st.dictionaries(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), st.integers(1, 99), min_size=1),
    st.data(),
)
def test_coverage_is_reached_and_not_overdone(
    tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int], data: st.DataObject
) -> None:
    needed = data.draw(st.sets(st.sampled_from([*counts, "〇"])))
    path = tmp_path_factory.getbasetemp() / "needed.txt"
    path.write_text("\n".join(sorted(needed)), "utf-8")
    characters = build({(c, None): n for c, n in counts.items()}, coverage=0.9, include=(path,)).characters
    assert needed <= set(characters)
    total = sum(counts.values())
    covered = [counts.get(c, 0) for c in characters]
    assert covered == sorted(covered, reverse=True)
    chosen = [counts[c] for c in characters if c not in needed]
    assert sum(covered) >= 0.9 * total
    assert not chosen or sum(covered) - chosen[-1] < 0.9 * total
    assert min(chosen, default=99) >= max((n for c, n in counts.items() if c not in characters), default=0)


def test_readings_are_the_dictionary_and_the_text() -> None:
    readings = build({**COUNTS, ("中", "zhong5"): 7}, coverage=1.0).readings
    assert readings["的"]["de5"] == 50
    assert readings["的"]["di2"] == 0
    assert readings["行"] == {"xing2": 10, "hang2": 5, "hang4": 0, "xing4": 0, "heng2": 0}
    assert readings["中"] == {"zhong1": 1, "zhong4": 0, "zhong5": 7}
    assert "，" not in readings
    assert "A" not in readings


def test_dictionary_readings() -> None:
    assert set(dictionary_readings("中")) == {"zhong1", "zhong4"}
    assert "en2" in dictionary_readings("嗯")
    assert dictionary_readings("，") == []


def test_the_common_hanzi_are_in_by_themselves() -> None:
    common = gb2312_level_1()
    assert len(common) == 3755
    assert {"啊", "中", "座"} < common, "the first, one in the middle, and the last"
    assert common.isdisjoint("亍喆，A")
    vocabulary = build_vocabulary(COUNTS, VocabularyConfig(), {})
    assert set(vocabulary.characters) == common | {"，", "A"}
    assert vocabulary.characters[:5] == ("的", "，", "行", "A", "中")
    assert vocabulary.readings["座"] == {"zuo4": 0}


def test_files_of_characters(tmp_path: Path) -> None:
    path = tmp_path / "needed.txt"
    path.write_text("\ufeff喆 B\n", "utf-8")
    assert build(size=3, include=(path,)).characters == ("的", "B", "喆")
    with pytest.raises(UserError, match=r"vocabulary\.size is 1, but 2 characters must be in it"):
        build(size=1, include=(path,))
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"needed\.txt: no UTF-8"):
        build(include=(path,))
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        build(include=(tmp_path / "none.txt",))


def test_letters_belong_to_the_pieces(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    path = tmp_path / "needed.txt"
    path.write_text("Ж", "utf-8")
    settings = VocabularyConfig(size=3, gb2312=False, pieces=40, include=(path,))
    vocabulary = build_vocabulary(COUNTS, settings, {"GPT": 9, "A": 2})
    assert vocabulary.characters == ("的", "，", "行")
    assert vocabulary.pieces is not None
    assert {"GPT", "A", "Ж"} <= set(vocabulary.pieces.texts)
    assert vocabulary.decode(vocabulary.encode("GPT的é")) == "GPT的é"


def test_letters_that_it_must_hold_are_pieces_where_the_text_has_none(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    path = tmp_path / "needed.txt"
    path.write_text("ABC", "utf-8")
    counts: PairCounts = {("的", "de5"): 50}
    vocabulary = build_vocabulary(counts, VocabularyConfig(gb2312=False, pieces=20, include=(path,)), {})
    assert vocabulary.characters == ("的",)
    assert vocabulary.pieces is not None
    assert set(vocabulary.pieces.texts) == {"A", "B", "C"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"coverage": 0.9, "size": 4000}, "vocabulary.coverage and vocabulary.size"),
        ({"path": Path("v.json"), "pieces": 8}, "vocabulary.pieces builds a vocabulary"),
        ({"path": Path("v.json"), "gb2312": False}, "vocabulary.gb2312 builds a vocabulary"),
        ({"coverage": 1.5}, "coverage"),
        ({"size": 0}, "size"),
        ({"pieces": -1}, "pieces"),
    ],
)
def test_settings_that_contradict_themselves(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VocabularyConfig(**values)


def test_settings_read_back_as_they_were_written() -> None:
    for settings in (VocabularyConfig(), VocabularyConfig(path=Path("v.json")), VocabularyConfig(size=9, pieces=300)):
        assert VocabularyConfig.model_validate_json(settings.model_dump_json()) == settings
