import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.pinyin import is_hanzi
from hzlm.tools.duplicates import keys as module
from hzlm.tools.duplicates.config import DuplicatesConfig
from hzlm.tools.duplicates.keys import HASHES, choose_bands, exact_keys, near_keys

TEXT = st.text("中国人a1，。 ", max_size=8)
CONFIG = DuplicatesConfig()


def compared(text: str) -> str:
    """What keys are made of."""
    hanzi = "".join(filter(is_hanzi, text))
    return hanzi if len(hanzi) >= 2 else text


def find_keys(texts: Sequence[str]) -> np.ndarray:
    """Near keys with the settings that are the default."""
    return near_keys(texts, CONFIG.ngram, CONFIG.similarity)


@given(st.lists(TEXT))
def test_exact_keys_are_equal_where_the_hanzi_are(texts: list[str]) -> None:
    keys = exact_keys(texts)
    assert keys.shape == (len(texts),)
    assert keys.dtype == np.uint64
    contents = list(map(compared, texts))
    assert len(set(keys.tolist())) == len(set(contents)) == len(set(zip(keys.tolist(), contents, strict=True)))


@settings(max_examples=30)
@given(st.lists(TEXT), st.integers(1, 40))
def test_near_keys_are_those_of_the_text_alone(texts: list[str], block: int) -> None:
    alone = [find_keys([text])[0].tolist() for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_CHARACTERS", block)
        together = find_keys(texts)
    assert together.shape == (len(texts), 14)
    assert together.tolist() == alone


@given(st.lists(TEXT, min_size=1))
def test_texts_shorter_than_an_ngram_are_near_only_where_they_are_equal(texts: list[str]) -> None:
    keys = near_keys(texts, 9, CONFIG.similarity)
    contents = list(map(compared, texts))
    for column in keys.T.tolist():
        assert len(set(column)) == len(set(contents)) == len(set(zip(column, contents, strict=True)))


def test_bands_have_different_keys() -> None:
    keys = find_keys(["中国人民的生活", "中国人民的生命"])
    assert len(np.unique(keys[0])) == keys.shape[1]
    assert set(keys[0].tolist()) & set(keys[1].tolist()) <= set(keys[0][keys[0] == keys[1]].tolist())


def test_bands_follow_from_the_similarity() -> None:
    assert choose_bands(0.72) == (14, 8)
    assert choose_bands(1.0)[0] == 1
    thresholds = [0.1, 0.3, 0.5, 0.7, 0.9, 0.99]
    shapes = [choose_bands(similarity) for similarity in thresholds]
    assert all(bands * rows <= HASHES for bands, rows in shapes)
    np.testing.assert_allclose([(1 / bands) ** (1 / rows) for bands, rows in shapes], thresholds, atol=0.04)


def jaccard(first: str, second: str) -> float:
    """The exact similarity."""
    one, other = (
        {text[at : at + CONFIG.ngram] for at in range(len(text) - CONFIG.ngram + 1)} for text in (first, second)
    )
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("rate", [0.01, 0.03, 0.06, 0.2])
def test_planted_duplicates_are_found_as_often_as_their_similarity_says(rate: float) -> None:
    generator = random.Random(f"planted {rate}")
    hanzi = [chr(0x4E00 + number) for number in range(2000)]
    texts = ["".join(generator.choices(hanzi, k=generator.randint(60, 300))) for _ in range(1000)]
    edited = [
        "".join(generator.choice(hanzi) if generator.random() < rate else character for character in text)
        for text in texts
    ]
    found = (find_keys(texts) == find_keys(edited)).any(axis=1)
    expected = 1 - (1 - np.array([jaccard(*pair) for pair in zip(texts, edited, strict=True)]) ** 8) ** 14
    deviation = np.sqrt((expected * (1 - expected)).sum())
    assert abs(found.sum() - expected.sum()) < 4 * deviation + 1


def test_different_texts_share_no_keys() -> None:
    generator = random.Random(5)
    texts = ["".join(generator.choices("的一是了我不人在他有这个上们来到时大地为", k=100)) for _ in range(2000)]
    keys = find_keys(texts)
    assert len(np.unique(keys)) == keys.size
    # All 64 bits tell texts apart, so that neither half of a key comes twice by more than chance.
    for half in (keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)):
        assert len(np.unique(half)) >= keys.size - 3
