"""Views: what each hides, and what it leaves."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm import data_config
from hzlm.data.dataset import Record
from hzlm.data.marks import MARK_WORD_START
from hzlm.data.views import POSITIONS, VIEWS, View, ViewMixture
from hzlm.data_config import FUZZY_PAIRS, POSITION_VIEWS, DataConfig
from hzlm.sounds import fuzzy_alternatives, slip_alternatives
from hzlm.vocabulary import Vocabulary

DOCUMENT = (Path(__file__).parents[2] / "docs" / "views.md").read_text("utf-8")

# hanzi -> its reading and how often it was seen
SEEN = {
    **{"昨": ("zuo2", 9), "天": ("tian1", 80), "我": ("wo3", 200), "在": ("zai4", 150), "北": ("bei3", 40)},
    **{"京": ("jing1", 30), "看": ("kan4", 60), "了": ("le5", 300), "足": ("zu2", 20), "球": ("qiu2", 15)},
    **{"比": ("bi3", 50), "赛": ("sai4", 12), "作": ("zuo4", 70), "做": ("zuo4", 50), "夫": ("fu1", 30)},
    **{"大": ("da4", 90), "田": ("tian2", 6), "找": ("zhao3", 20), "再": ("zai4", 30), "被": ("bei4", 40)},
    **{"经": ("jing1", 50), "今": ("jin1", 25), "乐": ("le4", 20), "族": ("zu2", 9), "求": ("qiu2", 14)},
    **{"笔": ("bi3", 4), "寨": ("zhai4", 1), "干": ("gan4", 20), "是": ("shi4", 250), "知": ("zhi1", 30)},
}
VOCABULARY = Vocabulary((*SEEN, "，", "。", "a"), {hanzi: {reading: seen} for hanzi, (reading, seen) in SEEN.items()})
TEXTS = st.text([*SEEN, "，", "a", "甲"], min_size=1, max_size=40)
SEEDS = st.integers(0, 2**32)


def record_of(text: str, words: str = "") -> Record:
    """words: as the text, with blanks between words; none: as if each character were one."""
    hanzi = VOCABULARY.encode(text)
    reading = [VOCABULARY.id_of(f"syl:{SEEN[c][0]}") if c in SEEN else int(i) for c, i in zip(text, hanzi, strict=True)]
    starts = [c for word in (words.split() or text) for c in [MARK_WORD_START, *[0] * (len(word) - 1)]]
    return Record(hanzi, np.array(reading, np.int32), np.array(starts, np.uint8))


def configured(**settings: Any) -> DataConfig:
    return DataConfig.model_validate({"path": "x", "views": {"pinyin": 1.0}, **settings}, strict=False)


def view_of(name: str, **settings: Any) -> View:
    return VIEWS[name](VOCABULARY, configured(**settings))


def names_of(ids: np.ndarray) -> list[str]:
    return [VOCABULARY.tokens[i].removeprefix("lit:").removeprefix("syl:") for i in ids]


WRONG = view_of("wrong", clean_rate=0.0, wrong_rate=0.3)


@given(TEXTS, SEEDS, st.sampled_from(["character", "span"]))
def test_masked_hides_the_rate_and_keeps_the_rest(text: str, seed: int, unit: str) -> None:
    record = record_of(text)
    source = view_of("masked", mask_unit=unit)(record, np.random.default_rng(seed))
    hidden = source == VOCABULARY.mask_id
    assert hidden.sum() == max(1, round(0.15 * len(text)))
    assert np.array_equal(source[~hidden], record.hanzi[~hidden])
    assert VOCABULARY.mask_id not in record.hanzi, "the record itself is untouched"


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), SEEDS, st.floats(0.01, 0.99))
def test_words_are_masked_whole(lengths: list[int], seed: int, rate: float) -> None:
    words = ["我" * length for length in lengths]
    source = view_of("masked", mask_unit="word", mask_rate=rate)(
        record_of("".join(words), " ".join(words)), np.random.default_rng(seed)
    )
    hidden = source == VOCABULARY.mask_id
    parts = np.split(hidden, np.cumsum(lengths)[:-1])
    assert all(part.all() or not part.any() for part in parts)
    assert hidden.any()
    # The first word drawn is always hidden; else the next one would bring it no nearer to what is wanted.
    assert abs(hidden.sum() - max(1, round(rate * len(hidden)))) <= max(lengths)


def test_words_are_masked_at_the_rate() -> None:
    record = record_of("昨天我在北京看了足球比赛。" * 8, "昨天 我 在 北京 看 了 足球 比赛 。 " * 8)
    view = view_of("masked", mask_unit="word")
    shares = [(view(record, np.random.default_rng(n)) == VOCABULARY.mask_id).mean() for n in range(300)]
    assert np.mean(shares) == pytest.approx(0.15, abs=0.005)


def test_spans_have_geometric_length() -> None:
    record = record_of("我" * 4000)
    view = view_of("masked", mask_unit="span", span_length=4.0, mask_rate=0.05)
    lengths: list[int] = []
    for seed in range(20):
        hidden = view(record, np.random.default_rng(seed)) == VOCABULARY.mask_id
        edges = np.flatnonzero(np.diff(hidden.astype(int), prepend=0, append=0))
        lengths += (edges[1::2] - edges[::2]).tolist()
    # About one span in a hundred touches the next one.
    assert np.mean(lengths) == pytest.approx(4.0, rel=0.1)
    assert np.mean([length == 1 for length in lengths]) == pytest.approx(0.25, abs=0.04)


def test_pinyin_toned_and_keys_say_how_it_sounds() -> None:
    record = record_of("知是在，甲a")
    generator = np.random.default_rng(0)
    assert names_of(view_of("pinyin")(record, generator)) == ["zhi", "shi", "zai", "，", "[UNK]", "a"]
    assert names_of(view_of("toned")(record, generator)) == ["zhi1", "shi4", "zai4", "，", "[UNK]", "a"]
    drawn = {tuple(names_of(view_of("keys")(record, generator))) for _ in range(60)}
    rest = ("key:z", "，", "[UNK]", "a")
    assert drawn == {(one, other, *rest) for one in ("key:z", "key:zh") for other in ("key:s", "key:sh")}


@pytest.mark.parametrize(
    ("name", "rate", "table"),
    [("fuzzy", 0.3, fuzzy_alternatives(FUZZY_PAIRS)), ("slips", 0.1, slip_alternatives())],
)
def test_syllables_are_altered_at_the_rate_by_the_table(name: str, rate: float, table: dict[str, tuple]) -> None:
    record = record_of("".join(SEEN) * 20 + "，a")
    right = names_of(VOCABULARY.toneless(record.reading))
    view = view_of(name)
    met = []
    for seed in range(40):
        shown = names_of(view(record, np.random.default_rng(seed)))
        for one, other in zip(right, shown, strict=True):
            assert other == one or other in table[one]
            if one in table:
                met.append((one, other))
    assert np.mean([one != other for one, other in met]) == pytest.approx(rate, abs=0.01)
    assert {other for one, other in met if one == "jing"} == {"jing", *table["jing"]}


@given(TEXTS, SEEDS)
def test_wrong_hanzi_are_other_hanzi_and_the_rest_stays(text: str, seed: int) -> None:
    record = record_of(text)
    source = WRONG(record, np.random.default_rng(seed))
    hanzi = np.array([c in SEEN for c in text])
    wrong = source != record.hanzi
    assert wrong.any() == hanzi.any()
    assert hanzi[wrong].all()
    assert all(name in SEEN for name in names_of(source[wrong]))


def test_how_many_are_wrong_is_drawn() -> None:
    record = record_of("昨天我在北京看了足球比赛。" * 3)
    numbers = [int((WRONG(record, np.random.default_rng(n)) != record.hanzi).sum()) for n in range(1000)]
    assert np.mean(numbers) == pytest.approx(0.3 * 36, abs=0.5)
    assert np.std(numbers) == pytest.approx((36 * 0.3 * 0.7) ** 0.5, rel=0.15)


def test_some_records_stay_clean() -> None:
    record = record_of("昨天我在北京看了足球比赛。")
    view = view_of("wrong", clean_rate=0.2)
    clean = [np.array_equal(view(record, np.random.default_rng(n)), record.hanzi) for n in range(1500)]
    assert np.mean(clean) == pytest.approx(0.2, abs=0.03)


def test_mixed_draws_every_position_by_rate() -> None:
    record = record_of("知，" * 3000)
    rates = {"syllable": 4.0, "toned": 1.0, "key": 2.0, "hanzi": 1.0, "mask": 1.0, "fuzzy": 0.5, "wrong": 0.5}
    shown = names_of(view_of("mixed", mixed=rates)(record, np.random.default_rng(0)))
    of_hanzi, of_comma = shown[::2], shown[1::2]
    expected = {"zhi": 0.4, "zhi1": 0.1, "key:z": 0.1, "key:zh": 0.1, "知": 0.1, "[MASK]": 0.1, "zi": 0.05}
    for name, rate in expected.items():
        assert of_hanzi.count(name) / 3000 == pytest.approx(rate, abs=0.02)
    assert sum(name in SEEN and name != "知" for name in of_hanzi) / 3000 == pytest.approx(0.05, abs=0.015)
    assert of_comma.count("[MASK]") / 3000 == pytest.approx(0.1, abs=0.02)
    assert set(of_comma) == {"，", "[MASK]"}


def test_mixture_draws_by_rate() -> None:
    mixture = ViewMixture(configured(views={"pinyin": 3.0, "toned": 1.0}), VOCABULARY)
    record = record_of("我")
    generator = np.random.default_rng(0)
    drawn = [VOCABULARY.tokens[mixture.source(record, generator)[0]] for _ in range(4000)]
    assert drawn.count("syl:wo") / 4000 == pytest.approx(0.75, abs=0.03)
    assert set(drawn) == {"syl:wo", "syl:wo3"}


def test_the_order_in_the_config_does_not_matter() -> None:
    record = record_of("我")
    mixtures = [
        ViewMixture(configured(views=views), VOCABULARY)
        for views in ({"pinyin": 1, "toned": 2}, {"toned": 2, "pinyin": 1})
    ]
    drawn = [[int(mixture.source(record, np.random.default_rng(n))[0]) for n in range(50)] for mixture in mixtures]
    assert drawn[0] == drawn[1]


def test_the_config_knows_the_views() -> None:
    assert set(data_config.VIEWS) == VIEWS.keys()
    assert set(POSITION_VIEWS) == POSITIONS.keys()


ALL = {name: view_of(name, mixed=dict.fromkeys(POSITION_VIEWS, 1.0)) for name in VIEWS}


@given(TEXTS, st.sampled_from(sorted(VIEWS)), SEEDS)
def test_every_view_is_a_function_of_record_and_generator(text: str, name: str, seed: int) -> None:
    """As long as the target, of ids that the vocabulary has, the same each time, the record untouched."""
    record = record_of(text)
    streams: list[np.ndarray] = [record.hanzi, record.reading, record.marks]
    before = [stream.copy() for stream in streams]
    source = ALL[name](record, np.random.default_rng(seed)).copy()
    assert source.shape == record.hanzi.shape
    assert source.dtype == np.int32
    assert np.array_equal(source, ALL[name](record, np.random.default_rng(seed)))
    assert ((source >= 0) & (source < VOCABULARY.size)).all()
    for now, then in zip(streams, before, strict=True):
        assert np.array_equal(now, then)
    if name in ("masked", "pinyin", "toned", "keys"):
        for token, target in zip(source.tolist(), record.hanzi.tolist(), strict=True):
            assert target == VOCABULARY.unknown_id or target in VOCABULARY.candidates(token)


@pytest.mark.parametrize("name", ["masked", "wrong"])
@given(TEXTS, SEEDS)
def test_what_needs_no_readings_shows_hanzi_and_masks_alone(name: str, text: str, seed: int) -> None:
    record = record_of(text)
    bare = Record(record.hanzi, record.hanzi, record.marks)
    shown = ALL[name](bare, np.random.default_rng(seed))
    assert ((shown >= VOCABULARY.target_start) | (shown < VOCABULARY.syllable_start)).all()


def test_the_document_shows_what_the_views_give() -> None:
    record = record_of("昨天我在北京看了足球比赛。", "昨天 我 在 北京 看 了 足球 比赛 。")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", DOCUMENT.partition("\n\nWhat")[0], re.MULTILINE))
    assert rows.keys() == VIEWS.keys()
    for name, example in rows.items():
        assert example == " ".join(names_of(view_of(name)(record, np.random.default_rng(5)))), name


def test_the_view_that_the_document_adds_works() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    _, definition = block.split("def half_toned")
    assert len(list(filter(None, definition.splitlines()))) <= 10
    names: dict[str, Any] = {}
    exec(block, names)
    view: View = names["half_toned"](VOCABULARY, configured())
    record = record_of("我，" * 2000)
    shown = names_of(view(record, np.random.default_rng(0)))
    assert shown.count("wo3") / 2000 == pytest.approx(0.5, abs=0.05)
    assert set(shown) == {"wo", "wo3", "，"}
