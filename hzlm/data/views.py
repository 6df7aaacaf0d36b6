"""Views: pure functions from a stored record to the source that a model reads.

A source has one id for each position of the target. To add a view, write such a function, and name it
in `VIEWS` here and in hzlm/config.py.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from hzlm.data.dataset import Record
from hzlm.data_config import DataConfig
from hzlm.vocabulary import Vocabulary

# (record, vocabulary, settings, random generator) -> int32 [N], the source ids
View = Callable[[Record, Vocabulary, DataConfig, np.random.Generator], np.ndarray]


def masked(record: Record, vocabulary: Vocabulary, config: DataConfig, generator: np.random.Generator) -> np.ndarray:
    """The hanzi, `mask_rate` of them (drawn without replacement, at least one) replaced by [MASK]."""
    length = len(record.hanzi)
    places = generator.choice(length, size=max(1, round(config.mask_rate * length)), replace=False)
    source = record.hanzi.copy()
    source[places] = vocabulary.mask_id
    return source


def pinyin(record: Record, vocabulary: Vocabulary, config: DataConfig, generator: np.random.Generator) -> np.ndarray:
    """The syllable of each hanzi, without its tone; what has no reading stands for itself."""
    return vocabulary.toneless(record.reading)


def toned(record: Record, vocabulary: Vocabulary, config: DataConfig, generator: np.random.Generator) -> np.ndarray:
    """The syllable of each hanzi with its tone; what has no reading stands for itself."""
    return record.reading


VIEWS: Mapping[str, View] = MappingProxyType({"masked": masked, "pinyin": pinyin, "toned": toned})


class ViewMixture:
    """Draws a view for each sample by the configured rates, and applies it."""

    def __init__(self, config: DataConfig, vocabulary: Vocabulary):
        self._config = config
        self._vocabulary = vocabulary
        names = sorted(config.views)
        self._views = [VIEWS[name] for name in names]
        rates = np.array([config.views[name] for name in names], dtype=np.float64)
        self._thresholds = np.cumsum(rates / rates.sum())

    def source(self, record: Record, generator: np.random.Generator) -> np.ndarray:
        """int32 [N]."""
        drawn = int(np.searchsorted(self._thresholds, generator.random(), side="right"))
        view = self._views[min(drawn, len(self._views) - 1)]
        return view(record, self._vocabulary, self._config, generator)
