"""Views: pure functions from a stored record to the source that a model reads.

A source has one id for each position of the target. docs/views.md shows what each view gives, and how to add one.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from hzlm.data.confusions import Confusions
from hzlm.data.dataset import Record
from hzlm.data.marks import MARK_WORD_START
from hzlm.data_config import DataConfig
from hzlm.pinyin import KEYS, SYLLABLE, SYLLABLES
from hzlm.sounds import fuzzy_alternatives, slip_alternatives
from hzlm.vocabulary import Vocabulary

Ids = npt.NDArray[np.int32]

View = Callable[[Record, np.random.Generator], Ids]
"""(record, random generator) -> int32 [N], the source ids. It may be an array of the record: it is to be read only."""

ViewFactory = Callable[[Vocabulary, DataConfig], View]
"""Makes a view, and once for all its calls the tables that it looks up."""


def masked(vocabulary: Vocabulary, config: DataConfig) -> View:
    """The hanzi, about `mask_rate` of them (at least one) replaced by [MASK]: characters, words or spans."""
    choose = {"character": _choose_characters, "word": _choose_words, "span": _choose_spans}[config.mask_unit]

    def view(record: Record, generator: np.random.Generator) -> Ids:
        source = record.hanzi.copy()
        source[choose(record, config, generator)] = vocabulary.mask_id
        return source

    return view


def pinyin(vocabulary: Vocabulary, config: DataConfig) -> View:
    """The syllable of each hanzi, without its tone; what has no reading stands for itself."""
    return lambda record, generator: vocabulary.toneless(record.reading)


def toned(vocabulary: Vocabulary, config: DataConfig) -> View:
    """The syllable of each hanzi with its tone; what has no reading stands for itself."""
    return lambda record, generator: record.reading


def keys(vocabulary: Vocabulary, config: DataConfig) -> View:
    """A key that the syllable begins with: of zhong either z or zh, with equal chance."""
    names = {syllable: tuple(key for key in KEYS if syllable.startswith(key)) for syllable in SYLLABLES}
    return _altered(vocabulary, {name: begins for name, begins in names.items() if begins}, "key:", 1.0)


def fuzzy(vocabulary: Vocabulary, config: DataConfig) -> View:
    """As `pinyin`, `fuzzy_rate` of the syllables that can be confused replaced by one that they are confused with."""
    return _altered(vocabulary, fuzzy_alternatives(config.fuzzy), SYLLABLE, config.fuzzy_rate)


def slips(vocabulary: Vocabulary, config: DataConfig) -> View:
    """As `pinyin`, with a typing slip in `slip_rate` of the syllables in which one gives another syllable."""
    return _altered(vocabulary, slip_alternatives(), SYLLABLE, config.slip_rate)


def wrong(vocabulary: Vocabulary, config: DataConfig) -> View:
    """The hanzi, each wrong with probability `wrong_rate` (at least one is); none in `clean_rate` of the records."""
    confusions = Confusions(vocabulary, config)

    def view(record: Record, generator: np.random.Generator) -> Ids:
        places = np.flatnonzero(confusions.is_hanzi(record.hanzi))
        if generator.random() < config.clean_rate or not len(places):
            return record.hanzi
        # drawn, so that one found error says nothing of others
        number = max(1, int(generator.binomial(len(places), config.wrong_rate)))
        return _replace(record, generator.choice(places, size=number, replace=False), confusions, generator)

    return view


def mixed(vocabulary: Vocabulary, config: DataConfig) -> View:
    """Each position carries one of the kinds of `mixed`, whatever the others carry.

    One of kind fuzzy or slip is always altered where it can be. What has no reading stands for itself, or is [MASK].
    """
    always = config.model_copy(update={"fuzzy_rate": 1.0, "slip_rate": 1.0})
    kinds = sorted(config.mixed)
    views = [POSITIONS[kind](vocabulary, always) for kind in kinds]
    thresholds = _thresholds([config.mixed[kind] for kind in kinds])

    def view(record: Record, generator: np.random.Generator) -> Ids:
        drawn = np.searchsorted(thresholds, generator.random(len(record.hanzi)), side="right")
        return np.choose(drawn, [view(record, generator) for view in views]).astype(np.int32)

    return view


def _all_hanzi(vocabulary: Vocabulary, config: DataConfig) -> View:
    return lambda record, generator: record.hanzi


def _all_masked(vocabulary: Vocabulary, config: DataConfig) -> View:
    return lambda record, generator: np.full_like(record.hanzi, vocabulary.mask_id)


def _all_wrong(vocabulary: Vocabulary, config: DataConfig) -> View:
    confusions = Confusions(vocabulary, config)

    def view(record: Record, generator: np.random.Generator) -> Ids:
        return _replace(record, np.flatnonzero(confusions.is_hanzi(record.hanzi)), confusions, generator)

    return view


VIEWS: Mapping[str, ViewFactory] = MappingProxyType(
    {
        "masked": masked,
        "pinyin": pinyin,
        "toned": toned,
        "keys": keys,
        "fuzzy": fuzzy,
        "slips": slips,
        "wrong": wrong,
        "mixed": mixed,
    }
)
"""The views by the names that `data.views` gives them."""

POSITIONS: Mapping[str, ViewFactory] = MappingProxyType(
    {
        "hanzi": _all_hanzi,
        "mask": _all_masked,
        "syllable": pinyin,
        "toned": toned,
        "key": keys,
        "fuzzy": fuzzy,
        "slip": slips,
        "wrong": _all_wrong,
    }
)
"""What a position of the mixed view may carry, as a view of all positions."""


class ViewMixture:
    """Draws a view for each sample by the configured rates, and applies it."""

    def __init__(self, config: DataConfig, vocabulary: Vocabulary):
        """Raises `ModuleNotFoundError` where a view needs a package that is missing."""
        names = sorted(config.views)
        self._views = [VIEWS[name](vocabulary, config) for name in names]
        self._thresholds = _thresholds([config.views[name] for name in names])

    def source(self, record: Record, generator: np.random.Generator) -> Ids:
        """int32 [N]."""
        drawn = int(np.searchsorted(self._thresholds, generator.random(), side="right"))
        return self._views[drawn](record, generator)


def _thresholds(rates: list[float]) -> npt.NDArray[np.float64]:
    """Where, from 0 to 1, the share of each ends, but for the last: what it leaves is all the last one's."""
    shares = np.array(rates, dtype=np.float64)
    return np.cumsum(shares / shares.sum())[:-1]


def _altered(vocabulary: Vocabulary, names: Mapping[str, tuple[str, ...]], prefix: str, rate: float) -> View:
    """As `pinyin`, but `rate` of the syllables in `names` replaced by one of the tokens that they name there."""
    numbers = np.zeros(vocabulary.size, np.int64)
    tokens = np.zeros((vocabulary.size, max(map(len, names.values()), default=1)), np.int32)
    for syllable, others in names.items():
        token_id = vocabulary.id_of(SYLLABLE + syllable)
        numbers[token_id] = len(others)
        tokens[token_id, : len(others)] = [vocabulary.id_of(prefix + other) for other in others]

    def view(record: Record, generator: np.random.Generator) -> Ids:
        source = vocabulary.toneless(record.reading)
        chance, which = generator.random((2, len(source)))
        others = tokens[source, (which * numbers[source]).astype(np.int64)]
        return np.where((chance < rate) & (numbers[source] > 0), others, source)

    return view


def _replace(
    record: Record, places: npt.NDArray[np.int64], confusions: Confusions, generator: np.random.Generator
) -> Ids:
    source = record.hanzi.copy()
    source[places] = confusions.draw(record.hanzi[places], record.reading[places], generator)
    return source


def _masked_number(record: Record, config: DataConfig) -> int:
    return max(1, round(config.mask_rate * len(record.hanzi)))


def _choose_characters(record: Record, config: DataConfig, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    return generator.choice(len(record.hanzi), size=_masked_number(record, config), replace=False)


def _choose_words(record: Record, config: DataConfig, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Positions of whole words, at least one, in all as near as it goes to the number wanted."""
    starts = (record.marks & MARK_WORD_START) > 0
    if not starts.any():  # of a dataset that was made without words
        return _choose_characters(record, config, generator)
    starts[0] = True
    word_of = np.cumsum(starts) - 1
    order = generator.permutation(int(word_of[-1]) + 1)
    filled = np.cumsum(np.bincount(word_of)[order])
    words = int(np.argmin(np.abs(filled - _masked_number(record, config)))) + 1
    return np.flatnonzero(np.isin(word_of, order[:words]))


def _choose_spans(record: Record, config: DataConfig, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Spans of geometric length, the last one cut to fit, with what is left shown between them at random.

    As in SpanBERT (Joshi et al. 2020, section 3.1), but that they end and begin anywhere, not at words.
    """
    number = _masked_number(record, config)
    ends = np.minimum(np.cumsum(generator.geometric(1 / config.span_length, size=number)), number)
    lengths = np.diff(ends, prepend=0)
    shown_before = np.sort(generator.integers(0, len(record.hanzi) - number + 1, size=len(lengths)))
    return np.repeat(shown_before, lengths) + np.arange(number)
