"""Which hanzi a system takes for which others, and how often."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hzlm.evaluate.breakdown import Answer
from hzlm.vocabulary import Vocabulary

SHOWN = 20
"""Pairs of a table."""


@dataclass(frozen=True)
class Confusion:
    """One hanzi given in place of another."""

    right: str
    given: str
    source: str
    """What the source said: `zhong`, `zhong4`."""
    count: int
    share: float
    """Of all places that ask for the right hanzi, whatever the source said there."""


def worst_homophones(answers: Iterable[Answer], vocabulary: Vocabulary) -> tuple[Confusion, ...]:
    """The pairs that are confused oftenest, SHOWN at most; equally frequent ones in the order of their characters."""
    confused: Counter[tuple[str, str, int]] = Counter()
    asked: Counter[str] = Counter()
    for answer in answers:
        asked[answer.right] += 1
        if answer.right != answer.given:
            confused[answer.right, answer.given, answer.source_id] += 1
    worst = sorted(confused.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
    return tuple(
        Confusion(right, given, _name_of(vocabulary.tokens[source_id]), count, count / asked[right])
        for (right, given, source_id), count in worst
    )


def _name_of(token: str) -> str:
    """A typed token without its type; specials have none."""
    return token.partition(":")[2] or token
