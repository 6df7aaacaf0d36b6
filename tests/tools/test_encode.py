import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data.dataset import MARK_AMBIGUOUS, MARK_WORD_START
from hzlm.pinyin import TONED_SYLLABLES
from hzlm.tools.encode import RecordEncoder
from hzlm.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    tuple("的，行A中"),
    {"的": {"de5": 9, "di4": 0}, "行": {"xing2": 2, "hang2": 1}, "中": {"zhong1": 3}},
)
ENCODER = RecordEncoder(VOCABULARY)
# Every pair that a sentence may hold: those of the vocabulary, and characters outside it with any reading.
PAIRS = [(hanzi, reading) for hanzi, of_hanzi in VOCABULARY.readings.items() for reading in of_hanzi]
PAIRS += [("，", ""), ("A", ""), ("B", ""), ("龘", "da2"), ("𠮷", "ji2")]


def streams(pairs: list[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    codes = np.array([ord(character) for character, _ in pairs], np.int32)
    readings = np.array([TONED_SYLLABLES.index(reading) if reading else -1 for _, reading in pairs], np.int16)
    return codes, readings


@given(st.lists(st.tuples(st.sampled_from(PAIRS), st.booleans())))
def test_records_say_what_the_sentence_is(sentence: list[tuple[tuple[str, str], bool]]) -> None:
    pairs = [pair for pair, _ in sentence]
    record = ENCODER.encode(*streams(pairs), np.array([start for _, start in sentence], np.uint8))
    assert record is not None
    tokens = VOCABULARY.tokens
    assert (record.hanzi.dtype, record.reading.dtype, record.marks.dtype) == (np.int32, np.int32, np.uint8)
    for i, ((character, reading), start) in enumerate(sentence):
        expected = f"lit:{character}" if character in VOCABULARY.characters else "[UNK]"
        assert tokens[record.hanzi[i]] == expected
        assert tokens[record.reading[i]] == (f"syl:{reading}" if reading else expected)
        marks = MARK_WORD_START * start + MARK_AMBIGUOUS * (character == "行")
        assert record.marks[i] == marks


def test_the_right_answer_is_never_excluded() -> None:
    lacking = [[("的", "de5"), ("的", "di2")], [("中", "zhong4")], [("，", "dou4")]]
    for pairs in lacking:
        assert ENCODER.encode(*streams(pairs), np.zeros(len(pairs), np.uint8)) is None
