"""Which documents are worth keeping: few rules for Chinese text, after those of Gopher (Rae et al. 2021, appendix A1).

Their defaults keep ordinary text of any length, down to one short utterance.
"""

import re
from typing import Annotated

import numpy as np
from pydantic import Field

from hzlm.pinyin import HANZI_RANGES
from hzlm.settings import Section

TOO_SHORT = "too few characters"
FEW_HANZI = "too few hanzi"
REPEATED_LINES = "repeated lines"
REPEATED_NGRAMS = "repeated n-grams"
BLOCKED = "blocked string"

# Short texts repeat themselves: a refrain, an answer, a laugh.
_LEAST_JUDGED = 200
# Gopher looks at ten words, about 16 hanzi: longer than the names that laws and news repeat.
_NGRAM = 16
# Runs of 1, 2, 4 and 8 characters make those of twice the length; odd factors lose no bits.
_FACTORS = {1: 0x9E3779B97F4A7C15, 2: 0xBF58476D1CE4E5B9, 4: 0x94D049BB133111EB, 8: 0xD6E8FEB86659FD93}

_NOT_HANZI = re.compile(f"[^{HANZI_RANGES}]+")
_BLANKS = re.compile(r"\s+")

Fraction = Annotated[float, Field(ge=0, le=1)]


class FilterConfig(Section):
    """Which documents are dropped; every number is of one document."""

    least_characters: Annotated[int, Field(ge=0)] = 1
    """Characters, without white space, that a document must have."""
    least_hanzi_share: Fraction = 0.1
    """Share of hanzi that its characters must have."""
    most_repeated_lines: Fraction = 0.3
    """Largest share of its characters in lines that it had before; only from 200 characters on."""
    most_repeated_ngrams: Fraction = 0.3
    """Largest share of its runs of 16 characters that it had before; only from 200 characters on."""
    blocked: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """A document that holds one of these strings is dropped; for a few, as each is looked for."""


def fault_of(text: str, config: FilterConfig) -> str | None:
    """Why a document, its lines parted by `\\n`, is to be dropped; None where it is to be kept."""
    size = len(_BLANKS.sub("", text))
    if size < config.least_characters:
        return TOO_SHORT
    if len(_NOT_HANZI.sub("", text)) < config.least_hanzi_share * size:
        return FEW_HANZI
    if any(string in text for string in config.blocked):
        return BLOCKED
    if size < _LEAST_JUDGED:
        return None
    if repeated_lines(text) > config.most_repeated_lines:
        return REPEATED_LINES
    if repeated_ngrams(text) > config.most_repeated_ngrams:
        return REPEATED_NGRAMS
    return None


def repeated_lines(text: str) -> float:
    """The share of the characters, without line ends, that stand in lines which the text had before."""
    lines = text.split("\n")
    size = sum(map(len, lines))
    return 1 - sum(map(len, set(lines))) / size if size else 0.0


def repeated_ngrams(text: str) -> float:
    """The share of the runs of 16 characters that the text had before; 0 where it has no such run.

    The runs are told apart by 64 bits, so that two that differ count as one about once in 10^19 pairs.
    """
    keys = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    if len(keys) < _NGRAM:
        return 0.0
    for length, factor in _FACTORS.items():
        keys = keys[:-length] * np.uint64(factor) + keys[length:]
        keys ^= keys >> np.uint64(32)
    keys.sort()
    return float(np.count_nonzero(keys[1:] == keys[:-1]) / len(keys))
