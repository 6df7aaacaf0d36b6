import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from damage import altered_json, answer_of, damaged
from hzlm.errors import UserError
from hzlm.pinyin import KEYS, SYLLABLES, TONED_SYLLABLES
from hzlm.vocabulary import SPECIALS, Vocabulary

READINGS = {
    "的": {"de5": 90, "di2": 1, "di4": 0},
    "中": {"zhong1": 30, "zhong4": 2},
    "重": {"zhong4": 9, "chong2": 8},
    "行": {"xing2": 20, "hang2": 20},
    "种": {"zhong3": 11, "zhong4": 1, "chong2": 0},
    "自": {"zi4": 5},
}
VOCABULARY = Vocabulary(tuple("的，中行重种自A2"), READINGS)


def test_the_layout_of_ids() -> None:
    v = VOCABULARY
    assert v.tokens[:4] == ("[PAD]", "[BOS]", "[MASK]", "[UNK]")
    assert (v.pad_id, v.bos_id, v.mask_id, v.unknown_id) == (0, 1, 2, 3)
    expected = [
        *SPECIALS,
        *(f"syl:{s}" for s in SYLLABLES),
        *(f"syl:{s}{t}" for s in SYLLABLES for t in "12345"),
        *(f"key:{k}" for k in KEYS),
        *(f"lit:{c}" for c in "的，中行重种自A2"),
    ]
    assert list(v.tokens) == expected
    assert v.size == len(expected) == v.target_start + v.target_size
    assert [v.id_of(token) for token in expected] == list(range(v.size))
    index = SYLLABLES.index("zhong")
    assert v.id_of("syl:zhong4") == v.toned_start + 5 * index + 3
    # A syllable, a key and a literal that are written alike are three tokens.
    assert len({v.id_of("syl:a"), v.id_of("key:a"), v.id_of("lit:A")}) == 3
    with pytest.raises(KeyError):
        v.id_of("lit:龘")


def test_encode_and_decode() -> None:
    ids = VOCABULARY.encode("中，龘A")
    assert ids.dtype == np.int32
    assert [VOCABULARY.tokens[i] for i in ids] == ["lit:中", "lit:，", "[UNK]", "lit:A"]
    assert VOCABULARY.decode(ids) == "中，□A"
    assert VOCABULARY.encode("").shape == (0,)
    with pytest.raises(ValueError, match="no target"):
        VOCABULARY.decode([VOCABULARY.id_of("syl:a")])


@given(st.lists(st.integers(0, VOCABULARY.size - 1)))
def test_toneless_takes_the_digit_away_and_nothing_else(ids: list[int]) -> None:
    expected = []
    for i in ids:
        token = VOCABULARY.tokens[i]
        expected.append(VOCABULARY.id_of(token.rstrip("12345")) if token.startswith("syl:") else i)
    assert VOCABULARY.toneless(np.array(ids, np.int32)).tolist() == expected
    assert VOCABULARY.toneless(np.array([ids], np.int32)).shape == (1, len(ids))


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("syl:zhong", "中种重"),  # 32, 12 and 9 times
        ("syl:zhong4", "重中种"),
        ("syl:chong2", "重种"),
        ("syl:chong", "重种"),
        ("syl:di", "的"),
        ("syl:hang2", "行"),
        ("syl:a", ""),
        ("key:zh", "中种重"),
        ("key:z", "中种重自"),
        ("key:h", "行"),
        ("lit:，", "，"),
        ("[MASK]", "的，中行重种自A2"),
        ("[UNK]", "的，中行重种自A2"),
        ("[PAD]", ""),
        ("[BOS]", ""),
    ],
)
def test_candidates(token: str, expected: str) -> None:
    source = VOCABULARY.id_of(token)
    candidates = VOCABULARY.candidates(source)
    assert candidates.dtype == np.int32
    assert VOCABULARY.decode(candidates) == expected


def test_every_hanzi_is_a_candidate_of_each_of_its_readings() -> None:
    for hanzi, readings in READINGS.items():
        target = VOCABULARY.id_of(f"lit:{hanzi}")
        for reading in readings:
            for token in (f"syl:{reading}", f"syl:{reading[:-1]}", f"key:{reading[0]}"):
                assert target in VOCABULARY.candidates(VOCABULARY.id_of(token))


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    VOCABULARY.save(path)
    loaded = Vocabulary.load(path)
    assert loaded == VOCABULARY
    assert loaded.fingerprint == VOCABULARY.fingerprint
    stored = json.loads(path.read_text(encoding="utf-8"))
    fingerprint = stored.pop("fingerprint")
    canonical = json.dumps(stored, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert fingerprint == hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def test_the_fingerprint_sees_content_not_order() -> None:
    characters = VOCABULARY.characters
    turned = Vocabulary(characters, {h: dict(reversed(r.items())) for h, r in reversed(READINGS.items())})
    assert turned.fingerprint == VOCABULARY.fingerprint
    assert Vocabulary(characters[::-1], READINGS).fingerprint != VOCABULARY.fingerprint
    assert Vocabulary(characters, {**READINGS, "自": {"zi4": 6}}).fingerprint != VOCABULARY.fingerprint


@pytest.mark.parametrize(
    ("characters", "readings", "message"),
    [
        (("中", "中"), {}, "distinct"),
        (("中国",), {}, "single"),
        (("中",), {"国": {"guo2": 1}}, "国"),
        (("中",), {"中": {"zhong": 1}}, "syllables with tone"),
        (("中",), {"中": {"zhogn1": 1}}, "syllables with tone"),
        (("中",), {"中": {"zhong1": -1}}, "counts"),
        (("中",), {"中": {}}, "readings of 中"),
    ],
)
def test_contradictions_are_refused(characters: tuple[str, ...], readings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(characters, readings)


def replaced(**fields: Any) -> bytes:
    stored = {**VOCABULARY._as_json(), "fingerprint": VOCABULARY.fingerprint, **fields}
    return json.dumps(stored).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b"[]", "no vocabulary of hzlm"),
        (b"\xff\xfe", "no JSON"),
        (replaced()[:-10], "no JSON"),
        (replaced(format="other"), "no vocabulary of hzlm"),
        (replaced(version=1), "another version"),
        (replaced(syllables=["a"]), "another version"),
        (replaced(keys=[]), "another version"),
        (replaced(characters=None), "damaged"),
        (replaced(characters=list("的，中行重种自A3")), "fingerprint"),
        (replaced(readings={**READINGS, "自": {"zi4": 4}}), "fingerprint"),
        (replaced(readings=[]), "damaged"),
        (replaced(readings={"中": 3}), "damaged"),
        (replaced(readings={"中": {"zhong1": "3"}}), "damaged"),
        (replaced(fingerprint="0"), "fingerprint"),
    ],
)
def test_damaged_vocabularies_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json.*No such file"):
        Vocabulary.load(tmp_path / "none.json")


VOCABULARIES = st.lists(st.characters(exclude_categories=["Cs"]), unique=True, max_size=12).flatmap(
    lambda characters: st.builds(
        Vocabulary,
        st.just(tuple(characters)),
        st.dictionaries(
            st.sampled_from(characters or [""]),
            st.dictionaries(st.sampled_from(TONED_SYLLABLES), st.integers(0, 10**12), min_size=1, max_size=3),
            max_size=len(characters),
        ),
    )
)


@given(VOCABULARIES)
def test_any_vocabulary_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, vocabulary: Vocabulary) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.json"
    vocabulary.save(path)
    loaded = Vocabulary.load(path)
    assert loaded == vocabulary
    assert loaded.fingerprint == vocabulary.fingerprint
    assert loaded.tokens == vocabulary.tokens


@given(VOCABULARIES, st.data())
def test_text_ids_and_candidates_of_any_vocabulary(vocabulary: Vocabulary, data: st.DataObject) -> None:
    text = data.draw(st.text(st.sampled_from(vocabulary.characters or ("x",)) | st.characters(), max_size=20))
    ids = vocabulary.encode(text)
    known = [character if character in vocabulary.characters else None for character in text]
    assert vocabulary.decode(ids) == "".join(character or "□" for character in known)
    assert [vocabulary.tokens[i] for i in ids] == [f"lit:{character}" if character else "[UNK]" for character in known]
    counts: dict[tuple[str, str], int] = {}
    for hanzi, readings in vocabulary.readings.items():
        for reading, count in readings.items():
            prefixes = (key for key in KEYS if reading.startswith(key))
            for source in (f"syl:{reading}", f"syl:{reading[:-1]}", *(f"key:{key}" for key in prefixes)):
                counts[source, hanzi] = counts.get((source, hanzi), 0) + count
    for source in {source for source, _ in counts} | {"syl:a", "syl:a1", "key:zh"}:
        allowed = vocabulary.decode(vocabulary.candidates(vocabulary.id_of(source)))
        expected = [hanzi for hanzi in vocabulary.characters if (source, hanzi) in counts]
        assert list(allowed) == sorted(expected, key=lambda hanzi: -counts[source, hanzi]), "stable: then by frequency"


CONTENT = replaced()


@given(damaged(CONTENT) | altered_json(json.loads(CONTENT)))
def test_a_damaged_vocabulary_is_refused_or_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged_vocabulary.json"
    path.write_bytes(content)
    found = answer_of(lambda: Vocabulary.load(path), path)
    assert found is None or found == VOCABULARY


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(replaced(characters=[*VOCABULARY.characters, "\ud800"]))
    assert answer_of(lambda: Vocabulary.load(path), path) is None


def test_how_likely_a_hanzi_is_read_as_the_source_says() -> None:
    vocabulary = Vocabulary(("行", "形", "，"), {"行": {"xing2": 7, "hang2": 2, "xing4": 0}, "形": {"xing2": 3}})
    for token, expected in {
        "syl:xing": [8 / 10.5, 1.0], "syl:xing2": [7.5 / 10.5, 1.0], "syl:hang": [2.5 / 10.5], "key:x": [8 / 10.5, 1.0],
        "lit:，": [1.0], "[MASK]": [1.0] * 3,
    }.items():  # fmt: skip
        found = vocabulary.reading_log_probabilities(vocabulary.id_of(token))
        assert found.dtype == np.float32
        assert np.exp(found) == pytest.approx(expected)
        assert len(found) == len(vocabulary.candidates(vocabulary.id_of(token)))
