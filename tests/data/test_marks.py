import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data.marks import (
    MARK_AMBIGUOUS,
    MARK_FOLLOWS,
    MARK_WORD_START,
    MOST_SECOND,
    NO_SECOND,
    SECOND_SHIFT,
    SecondReadings,
)
from hzlm.pinyin import TONED_SYLLABLES
from hzlm.vocabulary import Vocabulary

# 么 has more readings than the marks can number.
MANY = sorted(TONED_SYLLABLES[:40])
VOCABULARY = Vocabulary(
    tuple("的，行么"),
    {"的": {"de5": 3, "di4": 0, "di2": 1}, "行": {"xing2": 1, "hang2": 1}, "么": dict.fromkeys(reversed(MANY), 1)},
)
SECOND = SecondReadings(VOCABULARY)


def test_the_marks_take_a_byte_together() -> None:
    assert [MARK_WORD_START, MARK_AMBIGUOUS, MARK_FOLLOWS, 1 << SECOND_SHIFT] == [1, 2, 4, 8]
    assert MOST_SECOND << SECOND_SHIFT | MARK_WORD_START | MARK_AMBIGUOUS | MARK_FOLLOWS == 255


def test_the_number_is_that_among_the_sorted_readings() -> None:
    ids = [VOCABULARY.id_of(f"syl:{reading}") for reading in ("di2", "hang2", "xing2")]
    marks = SECOND.to_marks(VOCABULARY.encode("的行行"), np.array(ids))
    # de5 < di2 < di4, hang2 < xing2
    assert marks.tolist() == [2 << 3, 1 << 3, 2 << 3]


PAIRS = [(hanzi, reading) for hanzi, counts in VOCABULARY.readings.items() for reading in (*counts, "zhong1", "")]
PAIRS += [("，", ""), ("，", "de5"), ("龘", ""), ("龘", "da2")]


@given(st.lists(st.tuples(st.sampled_from(PAIRS), st.integers(0, 7))))
def test_second_readings_come_back_where_they_can_be_noted(found: list[tuple[tuple[str, str], int]]) -> None:
    hanzi = VOCABULARY.encode("".join(character for (character, _), _ in found))
    second = [VOCABULARY.id_of(f"syl:{reading}") if reading else NO_SECOND for (_, reading), _ in found]
    others = np.array([other for _, other in found], np.uint8)
    bits = SECOND.to_marks(hanzi, np.array(second, np.int64))
    assert bits.dtype == np.uint8
    assert not (bits & 7).any()
    expected = []
    for ((character, reading), _), token in zip(found, second, strict=True):
        known = sorted(VOCABULARY.readings.get(character, {}))[:MOST_SECOND]
        expected.append(token if reading in known else NO_SECOND)
    decoded = SECOND.of_marks(hanzi, bits | others)
    assert decoded.dtype == np.int32
    assert decoded.tolist() == expected
