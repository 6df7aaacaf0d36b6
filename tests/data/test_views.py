"""Views: what each hides, and what it leaves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm import config as config_module
from hzlm.data.dataset import Record
from hzlm.data.views import VIEWS, ViewMixture, masked, pinyin, toned
from hzlm.data_config import DataConfig
from hzlm.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("我", "是", "，"), {"我": {"wo3": 2}, "是": {"shi4": 1}})


def record_of(text: str) -> Record:
    hanzi = VOCABULARY.encode(text)
    readings = {"我": "syl:wo3", "是": "syl:shi4"}
    reading = [VOCABULARY.id_of(readings[c]) if c in readings else int(i) for c, i in zip(text, hanzi, strict=True)]
    return Record(hanzi, np.array(reading, np.int32), np.zeros(len(text), np.uint8))


def config(**views: float) -> DataConfig:
    return DataConfig.model_validate({"path": "x", "views": views or {"pinyin": 1.0}, "mask_rate": 0.15}, strict=False)


@given(st.text("我是，甲", min_size=1, max_size=40), st.integers(0, 2**32))
def test_masked_hides_the_rate_and_keeps_the_rest(text: str, seed: int) -> None:
    record = record_of(text)
    source = masked(record, VOCABULARY, config(), np.random.default_rng(seed))
    hidden = source == VOCABULARY.mask_id
    assert hidden.sum() == max(1, round(0.15 * len(text)))
    assert np.array_equal(source[~hidden], record.hanzi[~hidden])
    assert VOCABULARY.mask_id not in record.hanzi, "the record itself is untouched"


@given(st.text("我是，甲", min_size=1, max_size=40))
def test_pinyin_and_toned_say_how_it_sounds(text: str) -> None:
    record = record_of(text)
    generator = np.random.default_rng(0)
    names = {"我": ("syl:wo", "syl:wo3"), "是": ("syl:shi", "syl:shi4"), "，": ("lit:，",) * 2, "甲": ("[UNK]",) * 2}
    for view, which in ((pinyin, 0), (toned, 1)):
        source = view(record, VOCABULARY, config(), generator)
        assert [VOCABULARY.tokens[i] for i in source] == [names[c][which] for c in text]


def test_mixture_draws_by_rate() -> None:
    mixture = ViewMixture(config(pinyin=3.0, toned=1.0), VOCABULARY)
    record = record_of("我")
    generator = np.random.default_rng(0)
    drawn = [VOCABULARY.tokens[mixture.source(record, generator)[0]] for _ in range(4000)]
    assert drawn.count("syl:wo") / 4000 == pytest.approx(0.75, abs=0.03)
    assert set(drawn) == {"syl:wo", "syl:wo3"}


def test_the_order_in_the_config_does_not_matter() -> None:
    record = record_of("我")
    mixtures = [
        ViewMixture(config(**views), VOCABULARY) for views in ({"pinyin": 1, "toned": 2}, {"toned": 2, "pinyin": 1})
    ]
    drawn = [[int(mixture.source(record, np.random.default_rng(n))[0]) for n in range(50)] for mixture in mixtures]
    assert drawn[0] == drawn[1]


def test_the_config_knows_the_views() -> None:
    assert set(config_module.VIEWS) == VIEWS.keys()


@given(
    st.text("我是，甲", min_size=1, max_size=40),
    st.dictionaries(st.sampled_from(sorted(VIEWS)), st.floats(1e-6, 1e6), min_size=1),
    st.integers(0, 2**32),
)
def test_every_source_says_of_each_position_no_more_than_its_view(
    text: str, rates: dict[str, float], seed: int
) -> None:
    """As long as the target, a function of record and generator alone, of ids that one of the views may show."""
    record = record_of(text)
    before = [stream.copy() for stream in (record.hanzi, record.reading, record.marks)]
    mixture = ViewMixture(config(**rates), VOCABULARY)
    source = mixture.source(record, np.random.default_rng(seed))
    assert source.shape == record.hanzi.shape
    assert np.array_equal(source, mixture.source(record, np.random.default_rng(seed)))
    toneless = VOCABULARY.toneless(record.reading)
    shown = {"masked": [record.hanzi, np.full_like(record.hanzi, VOCABULARY.mask_id)], "pinyin": [toneless]}
    shown["toned"] = [record.reading]
    assert any(np.any([source == ids for ids in shown[view]], axis=0).all() for view in rates)
    for now, then in zip((record.hanzi, record.reading, record.marks), before, strict=True):
        assert np.array_equal(now, then), "the record itself is untouched"
    for token, target in zip(source.tolist(), record.hanzi.tolist(), strict=True):
        assert 0 <= token < VOCABULARY.size
        assert target == VOCABULARY.unknown_id or target in VOCABULARY.candidates(token)
