"""Which reading a hanzi has by what stands around it."""

import re
from dataclasses import dataclass

from hzlm.tools.annotation.readings import READING_INDEX

SAME_WORD = "="
"""In place of a neighbour's part of speech, where the neighbour belongs to the same word."""

_SEEN_BEFORE = 8


@dataclass(frozen=True)
class Rule:
    """A reading, and all that must hold for it."""

    reading: int
    """Index into `TONED_SYLLABLES`."""
    before: re.Pattern[str] | None = None
    """Matches the end of the text before the hanzi, of which eight characters are seen."""
    after: re.Pattern[str] | None = None
    """Matches the beginning of the text behind the hanzi."""
    previous: tuple[str, ...] = ()
    """Beginnings of jieba's part-of-speech tags: the word before has one of them. `SAME_WORD` is one, too."""
    own: tuple[str, ...] = ()
    """The same for the word itself."""
    following: tuple[str, ...] = ()
    """The same for the word behind."""

    def holds(self, sentence: str, place: int, previous: str, own: str, following: str) -> bool:
        """Whether the hanzi at this place, in a word of the second of these tags, is read so."""
        return (
            (not self.previous or previous.startswith(self.previous))
            and (not self.own or own.startswith(self.own))
            and (not self.following or following.startswith(self.following))
            and (self.after is None or self.after.match(sentence, place + 1) is not None)
            and (self.before is None or self.before.search(sentence, max(0, place - _SEEN_BEFORE), place) is not None)
        )


def parse_rules(table: str) -> dict[str, tuple[Rule, ...]]:
    """The rules for each hanzi, of which the first that holds is taken.

    A line of the table holds the hanzi, the reading, and one or more conditions, parted by blanks: `<RE` for what
    stands before, `>RE` for what stands behind (regular expressions), `-v,ad`, `@v,ad`, `+v,ad` for the beginnings of
    the tags of the word before, of the word itself and of the word behind. Raises `ValueError` for any other line.
    """
    rules: dict[str, tuple[Rule, ...]] = {}
    for line in filter(None, table.splitlines()):
        hanzi, reading, *written = line.split()
        conditions = {condition[0]: condition[1:] for condition in written}
        before, after = conditions.pop("<", None), conditions.pop(">", None)
        rule = Rule(
            READING_INDEX[reading],
            None if before is None else re.compile(f"(?:{before})$"),
            None if after is None else re.compile(after),
            *(tuple(filter(None, conditions.pop(sign, "").split(","))) for sign in "-@+"),
        )
        if conditions or not written:
            raise ValueError(f'"{line}" is no rule: its conditions begin with < > - @ or +')
        rules[hanzi] = (*rules.get(hanzi, ()), rule)
    return rules
