"""Sounds: the syllables that people take for one another, and those that a typing slip makes of one another."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from types import MappingProxyType

from hzlm.pinyin import SYLLABLES

_INITIALS = ("zh", "ch", "sh", *"bpmfdtnlgkhjqxrzcsyw")
# what y and w hide of a final that is one of those confused
_HIDDEN = {"yan": "ian", "yang": "iang", "wan": "uan", "wang": "uang"}

_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def fuzzy_alternatives(pairs: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Syllable -> the others that it may be taken for, sorted; syllables without any are left out.

    The initial may be confused, the final, or both at once. The relation is symmetric. It is not transitive: with n-l
    and r-l, lan is taken for nan and ran, but nan for lan alone. yan counts as y + ian, wan as w + uan.

    Args:
        pairs: initials or finals, as in `n-l` and `an-ang` (`hzlm.data_config.FUZZY_PAIRS`).
    """
    partners: dict[str, list[str]] = {}
    for pair in pairs:
        one, other = pair.split("-")
        partners.setdefault(one, []).append(other)
        partners.setdefault(other, []).append(one)
    syllable_of = {_split(syllable): syllable for syllable in SYLLABLES}
    found = {}
    for (initial, final), syllable in syllable_of.items():
        sounds = product((initial, *partners.get(initial, ())), (final, *partners.get(final, ())))
        found[syllable] = {syllable_of[sound] for sound in sounds if sound in syllable_of}
    return _without_itself(found)


def slip_alternatives() -> Mapping[str, tuple[str, ...]]:
    """Syllable -> the others that one slip on a QWERTY keyboard makes of it, sorted; those without any are left out.

    A slip is a key beside the right one (in its row, or touching it in the next), two keys in the wrong order, or a key
    left out. A key struck twice makes no syllable, since none has the same letter twice in a row.
    """
    neighbours = _neighbours()
    known = set(SYLLABLES)
    return _without_itself({syllable: known & set(_slips(syllable, neighbours)) for syllable in SYLLABLES})


def _split(syllable: str) -> tuple[str, str]:
    """Initial ("" where there is none) and final."""
    initial = next((initial for initial in _INITIALS if syllable.startswith(initial)), "")
    return initial, _HIDDEN.get(syllable, syllable.removeprefix(initial))


def _neighbours() -> dict[str, set[str]]:
    """The keys that touch each key: every row lies between a quarter and half a key right of the row above."""
    beside: dict[str, set[str]] = {key: set() for row in _KEYBOARD for key in row}
    for number, row in enumerate(_KEYBOARD):
        for column, key in enumerate(row):
            below = _KEYBOARD[number + 1][max(0, column - 1) : column + 1] if number + 1 < len(_KEYBOARD) else ""
            for other in row[column + 1 : column + 2] + below:
                beside[key].add(other)
                beside[other].add(key)
    return beside


def _slips(typed: str, neighbours: Mapping[str, set[str]]) -> Iterator[str]:
    """What may be typed instead, syllable or not."""
    for i, key in enumerate(typed):
        before, after = typed[:i], typed[i + 1 :]
        yield before + after
        yield from (before + other + after for other in neighbours[key])
        yield before + after[:1] + key + after[1:]


def _without_itself(found: Mapping[str, set[str]]) -> Mapping[str, tuple[str, ...]]:
    others = {syllable: tuple(sorted(sounds - {syllable})) for syllable, sounds in found.items()}
    return MappingProxyType({syllable: sounds for syllable, sounds in others.items() if sounds})
