from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.pinyin import TONED_SYLLABLES
from hzlm.tools.annotate import Annotation
from hzlm.tools.build_vocabulary import build_vocabulary, count_pairs, dictionary_readings
from hzlm.tools.spool import SpoolWriter

COUNTS = {
    ("的", "de5"): 50,
    ("的", "di4"): 2,
    ("，", None): 30,
    ("行", "xing2"): 10,
    ("行", "hang2"): 5,
    ("A", None): 2,
    ("中", "zhong1"): 1,
}


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [(1.0, "的，行A中"), (0.99, "的，行A"), (0.97, "的，行"), (0.96, "的，行"), (0.82, "的，"), (0.01, "的")],
)
def test_the_fewest_characters_that_cover(coverage: float, expected: str) -> None:
    assert "".join(build_vocabulary(COUNTS, coverage).characters) == expected


@given(st.dictionaries(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), st.integers(1, 99), min_size=1))
def test_coverage_is_reached_and_not_overdone(counts: dict[str, int]) -> None:
    characters = build_vocabulary({(c, None): n for c, n in counts.items()}, 0.9).characters
    total = sum(counts.values())
    covered = [counts[c] for c in characters]
    assert covered == sorted(covered, reverse=True)
    assert sum(covered) >= 0.9 * total > sum(covered[:-1])
    assert min(covered) >= max((n for c, n in counts.items() if c not in characters), default=0)


def test_readings_are_the_dictionary_and_the_text() -> None:
    counts = {**COUNTS, ("中", "zhong5"): 7}
    readings = build_vocabulary(counts, 1.0).readings
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


@settings(max_examples=25)
@given(st.lists(st.lists(st.tuples(st.sampled_from("中国a，𠮷"), st.integers(-1, 2124)), min_size=1), max_size=8))
def test_count_pairs(tmp_path_factory: pytest.TempPathFactory, sentences: list[list[tuple[str, int]]]) -> None:
    writer = SpoolWriter(tmp_path_factory.mktemp("spool"), "train")
    for sentence in sentences:
        readings = np.array([reading for _, reading in sentence], np.int16)
        writer.add("".join(c for c, _ in sentence), Annotation(readings, readings > 0), source=0)
    expected = Counter(
        (character, TONED_SYLLABLES[reading] if reading >= 0 else None)
        for sentence in sentences
        for character, reading in sentence
    )
    assert count_pairs(writer.finish()) == expected


def test_a_spool_gives_back_its_sentences(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "dev")
    annotation = Annotation(np.array([5, -1], np.int16), np.array([True, False]))
    writer.add("中𠮷", annotation, source=3)
    writer.end_document()
    spool = writer.finish()
    assert len(spool) == 1
    assert spool.codes[0].tolist() == [ord("中"), ord("𠮷")]
    assert spool.readings[0].tolist() == [5, -1]
    assert spool.word_starts[0].tolist() == [1, 0]
    assert list(spool.sources) == [3]
