"""The Converter around a tiny model with random weights: whatever it answers has to have the readings asked for."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.config import ModelConfig
from hzlm.decode.converter import Converter
from hzlm.decode.scorers import ModelScorer
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.pieces import Pieces
from hzlm.vocabulary import Vocabulary

READINGS = {
    "我": {"wo3": 9},
    "爱": {"ai4": 5},
    "碍": {"ai4": 1},
    "北": {"bei3": 4},
    "背": {"bei4": 2, "bei1": 1},
    "京": {"jing1": 3},
    "景": {"jing3": 2},
    "竟": {"jing4": 2},
}
SHAPE = ModelConfig(hidden_size=16, heads=2, feed_forward_size=32, encoder_layers=1, decoder_layers=1, max_length=12)

PIECES = ("wo", "ai4", "bei", "jing", "，", "☃")


@pytest.fixture(scope="module")
def converter() -> Converter:
    vocabulary = Vocabulary((*READINGS, "，", "2"), READINGS)
    return Converter(EncoderDecoder(SHAPE, vocabulary.size, vocabulary.target_start).initialize(1), vocabulary)


def test_every_character_has_the_syllable_asked_for(converter: Converter) -> None:
    found = converter.candidates(["wo ai bei jing"], n_best=20, beam=20)[0]
    assert {candidate.text for candidate in found} == {
        f"我{ai}{bei}{jing}" for ai in "爱碍" for bei in "北背" for jing in "京景竟"
    }
    probabilities = [candidate.log_probability for candidate in found]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_tone_narrows(converter: Converter) -> None:
    assert {candidate.text for candidate in converter.candidates(["bei1 jing1"])[0]} == {"背京"}


def test_literals_stand_for_themselves_also_outside_the_vocabulary(converter: Converter) -> None:
    assert converter.convert("wo，2008 lit:中Q wo") == "我，2008中Q我"


def test_literals_cost_nothing(converter: Converter) -> None:
    assert converter.candidates(["，9 ☃"])[0][0].log_probability == 0.0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12), max_size=8))
def test_a_batch_gives_what_each_text_gives_alone(texts: list[list[str]]) -> None:
    """With the weights as they are: a text alone may otherwise run in another layout of them."""
    vocabulary = Vocabulary((*READINGS, "，", "2"), READINGS)
    model = EncoderDecoder(SHAPE, vocabulary.size, vocabulary.target_start).initialize(1)
    converter = Converter(model, vocabulary)
    converter._scorer = ModelScorer(model)
    lines = [" ".join(text) for text in texts]
    together = converter.candidates(lines, n_best=3)
    for line, found in zip(lines, together, strict=True):
        (alone,) = converter.candidates([line], n_best=3)
        assert [candidate.text for candidate in found] == [candidate.text for candidate in alone]
        assert [candidate.log_probability for candidate in found] == pytest.approx(
            [candidate.log_probability for candidate in alone], abs=1e-4
        )


def test_more_texts_than_a_batch_keep_their_order(converter: Converter) -> None:
    lines = [" ".join(["wo"] * (1 + number % 5)) for number in range(150)]
    done: list[int] = []
    found = converter.search([converter.read(line, "here") for line in lines], advance=done.append)
    assert [candidates[0].text for candidates in found] == ["我" * (1 + number % 5) for number in range(150)]
    assert sum(done) == 150


def test_nothing_gives_nothing(converter: Converter) -> None:
    assert converter.candidates([]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wo ia", r"text 1.*\"ia\".*ai"),
        ("wo 爱", "text 1.*爱"),
        (" ", "text 1"),
        ("wo " * 13, "text 1: 13 characters, but this model takes 12 at most"),
        ("wo zhong", "text 1, character 2: this model knows no hanzi that is read zhong"),
        ("wo4 ai", "text 1, character 1: .* read wo4; leave the tone out: wo"),
    ],
)
def test_bad_text(converter: Converter, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        converter.candidates([text])


def test_a_beam_narrower_than_what_is_asked(converter: Converter) -> None:
    """The last open position gives the rest, whatever literals follow it."""
    for text in ("wo jing", "wo jing ，"):
        assert len({found.text for found in converter.candidates([text], n_best=3, beam=2)[0]}) == 3


@pytest.fixture(scope="module")
def with_pieces() -> Converter:
    pieces = Pieces(("GPT", "PT4", "a", "4", "G", "2008"), (-3000, -2900, -2000, -2500, -2600, -3000))
    vocabulary = Vocabulary((*READINGS, "，"), READINGS, pieces)
    return Converter(EncoderDecoder(SHAPE, vocabulary.size, vocabulary.target_start).initialize(1), vocabulary)


@pytest.mark.parametrize(
    ("pinyin", "text", "pieces"),
    [
        ("wo3 lit:GPT4", "我GPT4", "我 G PT4"),
        ("wo3 lit:G lit:P lit:T 4 ，", "我GPT4，", "我 G PT4 ，"),
        ("wo lit:G wo lit:PT 4", "我G我PT4", "我 G 我 PT4"),
        ("wo 2008 ，2008", "我2008，2008", "我 2008 ， 2008"),
    ],
)
def test_literals_are_cut_as_in_training(with_pieces: Converter, pinyin: str, text: str, pieces: str) -> None:
    source = with_pieces.read(pinyin, "here")
    tokens = [with_pieces.vocabulary.tokens[i] for i in source.ids]
    assert ["我" if token.startswith("syl:") else token.removeprefix("lit:") for token in tokens] == pieces.split()
    assert len(source.ids) < len(text) == len(source.characters)
    assert with_pieces.convert(pinyin) == text


def test_what_is_no_piece_takes_a_position_a_byte(with_pieces: Converter) -> None:
    source = with_pieces.read("wo lit:é ☃ lit:龘 ai", "here")
    tokens = [with_pieces.vocabulary.tokens[i] for i in source.ids]
    assert tokens[1:-1] == ["byte:C3", "byte:A9", "byte:E2", "byte:98", "byte:83", "[UNK]"]
    assert source.characters == (None, "é", "☃", "龘", None)
    assert {found.text for found in with_pieces.candidates(["wo lit:é ☃ lit:龘 ai"], n_best=9)[0]} == {
        "我é☃龘爱",
        "我é☃龘碍",
    }


def test_the_longest_text_is_counted_in_positions(with_pieces: Converter) -> None:
    assert with_pieces.convert("2008 wo " * 6) == "2008我" * 6
    with pytest.raises(UserError, match="text 1: 14 positions, but this model takes 12 at most"):
        with_pieces.convert("2008 wo " * 7)


def test_importing_the_converter_needs_no_extra() -> None:
    program = (
        "import sys, hzlm.decode.converter; "
        "extras = {'deepspeed', 'jieba', 'pypinyin', 'opencc', 'tensorboard', 'jiwer', 'sacrebleu', 'matplotlib', "
        "'sentencepiece'}; "
        "sys.exit(str(extras & sys.modules.keys() or ''))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr.strip() == ""
