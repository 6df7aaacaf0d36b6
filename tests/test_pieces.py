"""Pieces against sentencepiece and against trying every way; vocabularies that have them."""

import json
import sys
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.errors import UserError
from hzlm.pieces import NEVER_BYTES, RUN, SCORES_PER_NAT, Pieces
from hzlm.pinyin import is_hanzi
from hzlm.vocabulary import Vocabulary

LETTERS = "abあ1"
# few scores, so that there are many ways of the same likelihood
SCORES = st.integers(-6, 0).map(lambda score: score * SCORES_PER_NAT // 2) | st.integers(-20 * SCORES_PER_NAT, 0)
PIECES = st.dictionaries(st.text(LETTERS, min_size=1, max_size=4), SCORES, min_size=1, max_size=12).map(
    lambda scores: Pieces(tuple(scores), tuple(scores.values()))
)
RUNS = st.text(LETTERS + "é", min_size=1, max_size=32)

OF_GPT = Pieces(("GPT", "PT4", "a", "ing", "4", "G"), (-3000, -2900, -2000, -4000, -2500, -2600))
READINGS = {"我": {"wo3": 9}, "用": {"yong4": 5}}
VOCABULARY = Vocabulary(("我", "用", "，"), READINGS, OF_GPT)


def as_sentencepiece(pieces: Pieces) -> bytes:
    """The same model as a file of sentencepiece."""
    model_format = pytest.importorskip("sentencepiece.sentencepiece_model_pb2")
    model = model_format.ModelProto()
    kinds = model_format.ModelProto.SentencePiece
    model.pieces.add(piece="<unk>", score=0, type=kinds.UNKNOWN)
    for byte in range(256):
        model.pieces.add(piece=f"<0x{byte:02X}>", score=0, type=kinds.BYTE)
    for text, score in zip(pieces.texts, pieces.scores, strict=True):
        model.pieces.add(piece=text, score=score / SCORES_PER_NAT, type=kinds.NORMAL)
    model.trainer_spec.model_type = model.trainer_spec.UNIGRAM
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = False
    model.normalizer_spec.remove_extra_whitespaces = False
    return bytes(model.SerializeToString())


@given(PIECES, st.lists(RUNS, min_size=1, max_size=8))
def test_runs_are_cut_as_sentencepiece_cuts_them(pieces: Pieces, runs: list[str]) -> None:
    library = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_proto=as_sentencepiece(pieces))
    for run in runs:
        cut = pieces.cut(run)
        assert "".join(cut) == run
        with_bytes = [
            part
            for unit in cut
            for part in ([unit] if unit in pieces.texts else [f"<0x{b:02X}>" for b in unit.encode()])
        ]
        assert with_bytes == library.encode(run, out_type=str)


@given(PIECES, st.text(LETTERS, min_size=1, max_size=9))
def test_no_way_to_cut_a_run_is_likelier(pieces: Pieces, run: str) -> None:
    score_of = dict(zip(pieces.texts, pieces.scores, strict=True))
    unknown = min(pieces.scores) - 10 * SCORES_PER_NAT

    def score(cut: list[str]) -> int | None:
        scores = [score_of.get(part, unknown if len(part) == 1 else None) for part in cut]
        return None if None in scores else sum(s for s in scores if s is not None)

    ways = []
    for borders in range(1 << (len(run) - 1)):
        places = [0, *(i + 1 for i in range(len(run) - 1) if borders >> i & 1), len(run)]
        ways.append(score([run[a:b] for a, b in pairwise(places)]))
    assert score(pieces.cut(run)) == max(way for way in ways if way is not None)


def test_what_a_run_is() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        assert (RUN.fullmatch(character) is not None) == (character.isalnum() and not is_hanzi(character))
        surrogate = 0xD800 <= code < 0xE000
        assert (NEVER_BYTES.fullmatch(character) is not None) == (is_hanzi(character) or surrogate)


@pytest.mark.parametrize(
    ("texts", "scores", "message"),
    [
        (("a", "a"), (0, 0), "distinct"),
        (("a b",), (0,), "runs"),
        (("",), (0,), "runs"),
        (("我a",), (0,), "runs"),
        (("a",), (0, 1), "one integer each"),
        (("a",), (0.5,), "one integer each"),
    ],
)
def test_what_are_no_pieces(texts: tuple[str, ...], scores: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pieces(texts, scores)


def test_the_layout_of_ids() -> None:
    plain = Vocabulary(VOCABULARY.characters, READINGS)
    assert VOCABULARY.tokens[: plain.size] == plain.tokens
    expected = [*(f"lit:{text}" for text in OF_GPT.texts), *(f"byte:{byte:02X}" for byte in range(256))]
    assert list(VOCABULARY.tokens[plain.size :]) == expected
    assert VOCABULARY.target_size == plain.target_size + len(expected)
    assert VOCABULARY.size == plain.size + len(expected)
    for token in ("lit:GPT", "byte:E4"):
        assert VOCABULARY.candidates(VOCABULARY.id_of(token)).tolist() == [VOCABULARY.id_of(token)]
    assert VOCABULARY.candidates(VOCABULARY.mask_id)[-1] == VOCABULARY.id_of("byte:FF")


def test_positions_of_a_text() -> None:
    text = "我用GPT4，GPTé龘!"
    tokens = [VOCABULARY.tokens[i] for i in VOCABULARY.encode(text)]
    assert tokens == [
        *("lit:我", "lit:用", "lit:G", "lit:PT4", "lit:，", "lit:GPT", "byte:C3", "byte:A9", "[UNK]", "byte:21"),
    ]
    assert VOCABULARY.cut(text) == ["我", "用", "G", "PT4", "，", "GPT", "", "é", "龘", "!"]
    assert VOCABULARY.decode(VOCABULARY.encode(text)) == text.replace("龘", "□")


@given(st.text(st.sampled_from("我用，GPT4aingé龘") | st.characters(), max_size=30))
def test_only_unknown_hanzi_are_lost(text: str) -> None:
    """Letters, digits, kana, emoji and signs come back, whether the vocabulary knows them or not."""
    ids, cut = VOCABULARY.encode(text), VOCABULARY.cut(text)
    assert ids.dtype == np.int32
    assert "".join(cut) == text
    assert len(cut) == len(ids)
    lost = {c for c in text if c not in VOCABULARY.characters and (is_hanzi(c) or "\ud800" <= c <= "\udfff")}
    assert VOCABULARY.decode(ids) == "".join("□" if character in lost else character for character in text)
    assert VOCABULARY.texts(ids) == ["□" if part in lost else part for part in cut]


@given(st.lists(st.sampled_from([0xE4, 0xBD, 0xA0, 0xC3, 0xA9, 0x41, 0xF0, 0xFF, None]), max_size=12))
def test_bytes_that_are_no_utf8(values: list[int | None]) -> None:
    comma = VOCABULARY.id_of("lit:，")
    ids = [comma if value is None else VOCABULARY.id_of(f"byte:{value:02X}") for value in values]
    parts = [
        "，" * len(list(group)) if is_comma else bytes(v for v in group if v is not None).decode("utf-8", "replace")
        for is_comma, group in groupby(values, key=lambda value: value is None)
    ]
    assert VOCABULARY.decode(ids) == "".join(parts)
    assert len(VOCABULARY.texts(ids)) == len(ids)


def test_no_target_below_or_above() -> None:
    for token_id in (VOCABULARY.target_start - 1, VOCABULARY.size):
        with pytest.raises(ValueError, match="no target"):
            VOCABULARY.decode([token_id])


def test_letters_are_pieces_or_characters_but_not_both() -> None:
    with pytest.raises(ValueError, match="beside them characters"):
        Vocabulary(("我", "a"), {}, OF_GPT)


@settings(max_examples=20)
@given(PIECES)
def test_save_and_load(tmp_path_factory: pytest.TempPathFactory, pieces: Pieces) -> None:
    path = tmp_path_factory.mktemp("pieces") / "vocabulary.json"
    vocabulary = Vocabulary(("我", "用"), READINGS, pieces)
    vocabulary.save(path)
    loaded = Vocabulary.load(path)
    assert loaded == vocabulary
    assert loaded.tokens == vocabulary.tokens
    fingerprints = {vocabulary.fingerprint, Vocabulary(("我", "用"), READINGS).fingerprint}
    if len(pieces.texts) > 1:
        turned = Pieces(pieces.texts[::-1], pieces.scores[::-1])
        fingerprints.add(Vocabulary(("我", "用"), READINGS, turned).fingerprint)
    higher = Pieces(pieces.texts, (pieces.scores[0] + 1, *pieces.scores[1:]))
    fingerprints.add(Vocabulary(("我", "用"), READINGS, higher).fingerprint)
    assert len(fingerprints) == 3 + (len(pieces.texts) > 1)


@pytest.mark.parametrize("pieces", [[["a", 0], ["a", 1]], [["a"]], [["a", "0"]], [["a", 0.5]], "ab", 3, {"a": 1}, [3]])
def test_damaged_pieces_are_refused(tmp_path: Path, pieces: object) -> None:
    path = tmp_path / "vocabulary.json"
    VOCABULARY.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "pieces": pieces}), "utf-8")
    with pytest.raises(UserError, match="damaged"):
        Vocabulary.load(path)
