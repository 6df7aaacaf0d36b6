"""Streams against a sentence-by-sentence, character-by-character account of what they should say."""

from itertools import accumulate

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data.marks import MARK_AMBIGUOUS, MARK_FOLLOWS, MARK_WORD_START, SECOND_SHIFT
from hzlm.pieces import Pieces
from hzlm.pinyin import TONED_SYLLABLES, is_hanzi
from hzlm.tools.encode import Encoded, SentenceEncoder
from hzlm.vocabulary import Vocabulary

READINGS = {"的": {"de5": 9, "di4": 0}, "行": {"xing2": 2, "hang2": 1}, "中": {"zhong1": 3}}
PLAIN = Vocabulary(tuple("的，行A中"), READINGS)
WITH_PIECES = Vocabulary(
    tuple("的，行中"), READINGS, Pieces(("A", "AB", "B", "BA1", "1"), (-900, -1000, -900, -1500, -50))
)
MAX_LENGTH = 12
ENCODERS = {"plain": SentenceEncoder(PLAIN, MAX_LENGTH), "pieces": SentenceEncoder(WITH_PIECES, MAX_LENGTH)}

# (character, reading, word start, second reading); the second line is what a vocabulary refuses
Character = tuple[str, str, bool, str]
ALLOWED = [(hanzi, reading) for hanzi, of_hanzi in READINGS.items() for reading in of_hanzi]
ALLOWED += [("，", ""), ("A", ""), ("B", ""), ("1", ""), ("é", ""), ("☃", ""), ("龘", "da2"), ("𠮷", "ji2"), ("中", "")]
REFUSED = [("的", "di2"), ("中", "zhong4"), ("，", "dou4")]
CHARACTERS = st.tuples(
    st.sampled_from(ALLOWED * 4 + REFUSED), st.booleans(), st.sampled_from(["", "", "de5", "di4", "hang2", "zhong4"])
).map(lambda drawn: (*drawn[0], drawn[1], drawn[2]))
SENTENCES = st.lists(st.tuples(st.lists(CHARACTERS, max_size=14), st.booleans()), max_size=6)


def encode(encoder: SentenceEncoder, sentences: list[tuple[list[Character], bool]]) -> Encoded:
    characters = [character for sentence, _ in sentences for character in sentence]

    def indices(texts: list[str]) -> npt.NDArray[np.int16]:
        return np.array([TONED_SYLLABLES.index(text) if text else -1 for text in texts], np.int16)

    return encoder.encode(
        np.array([ord(character) for character, *_ in characters], np.int32),
        indices([reading for _, reading, _, _ in characters]),
        np.array([start for _, _, start, _ in characters], np.uint8),
        indices([second for *_, second in characters]),
        np.array([len(sentence) for sentence, _ in sentences], np.int32),
        np.array([follows for _, follows in sentences], np.bool_),
    )


def expected_of(vocabulary: Vocabulary, sentence: list[Character]) -> list[tuple[str, str, int]] | None:
    """(hanzi token, reading token, marks) of each position; None where a reading is unknown."""
    for character, reading, _, _ in sentence:
        is_piece = vocabulary.pieces is not None and not is_hanzi(character)
        judged = reading != "" and (character in vocabulary.characters or is_piece)
        if judged and reading not in vocabulary.readings.get(character, {}):
            return None
    text = "".join(character for character, *_ in sentence)
    parts = vocabulary.cut(text)
    begins = [0, *accumulate(map(len, parts))]
    positions = []
    for place, token_id in enumerate(vocabulary.encode(text)):
        character, reading, start, second = sentence[begins[place]]
        token = vocabulary.tokens[token_id]
        marks = MARK_WORD_START * start + MARK_AMBIGUOUS * (character == "行" and reading != "")
        known = sorted(vocabulary.readings.get(character, {}))
        if second in known:
            marks += (1 + known.index(second)) << SECOND_SHIFT
        if place and begins[place] == begins[place - 1]:
            marks = 0
        positions.append((token, f"syl:{reading}" if reading else token, marks))
    return positions


@pytest.mark.parametrize("name", ENCODERS)
@given(sentences=SENTENCES)
def test_the_streams_say_what_the_sentences_are(name: str, sentences: list[tuple[list[Character], bool]]) -> None:
    encoder = ENCODERS[name]
    tokens = encoder.vocabulary.tokens
    found = encode(encoder, sentences)
    assert (found.hanzi.dtype, found.reading.dtype, found.marks.dtype) == (np.int32, np.int32, np.uint8)
    streams: list[tuple[str, str, int]] = []
    lengths, before_is_kept = [], True
    for (sentence, follows), kept, too_long in zip(sentences, found.kept, found.too_long, strict=True):
        expected = expected_of(encoder.vocabulary, sentence)
        positions = len(encoder.vocabulary.encode("".join(character for character, *_ in sentence)))
        assert too_long == (positions > MAX_LENGTH)
        assert kept == (expected is not None and not too_long)
        if kept and expected is not None:
            lengths.append(len(expected))
            if expected and follows and before_is_kept:
                expected[0] = (*expected[0][:2], expected[0][2] + MARK_FOLLOWS)
            streams += expected
        before_is_kept = kept
    assert found.lengths.tolist() == lengths
    assert [
        (tokens[hanzi], tokens[reading], int(marks))
        for hanzi, reading, marks in zip(found.hanzi, found.reading, found.marks, strict=True)
    ] == streams


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("character", "reading"), REFUSED)
def test_the_right_answer_is_never_excluded(name: str, character: str, reading: str) -> None:
    sentences = [
        ([("行", "hang2", True, ""), (character, reading, True, "")], False),
        ([("行", "xing2", True, "")], True),
    ]
    found = encode(ENCODERS[name], sentences)
    assert found.kept.tolist() == [False, True]
    assert found.marks.tolist() == [MARK_WORD_START + MARK_AMBIGUOUS], "what it would follow is gone"


def test_pieces_shorten_a_record_and_do_not_reach_into_the_next_sentence() -> None:
    letters = [(letter, "", False, "") for letter in "ABBA1"]
    found = encode(ENCODERS["pieces"], [(letters, False), (letters[:1], False), (letters[1:2], False)])
    assert WITH_PIECES.texts(found.hanzi) == ["AB", "BA1", "A", "B"]
    assert found.lengths.tolist() == [2, 1, 1]
    assert found.reading.tolist() == found.hanzi.tolist()
