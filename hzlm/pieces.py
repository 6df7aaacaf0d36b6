"""Pieces: how runs of letters and digits are cut into tokens of several characters.

The pieces and their scores come from sentencepiece (`hzlm.tools.train_pieces`). Cutting is done here, so that whoever
converts needs no sentencepiece, and with integers, so that every machine cuts alike.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from hzlm.pinyin import HANZI_RANGES

RUN = re.compile(f"[^\\W_{HANZI_RANGES}]+")
"""Letters and digits (`str.isalnum`) that are no hanzi, as many as stand together: what pieces are cut from."""

NEVER_BYTES = re.compile(f"[{HANZI_RANGES}\ud800-\udfff]+")
"""What never becomes bytes, but is unknown where a vocabulary lacks it: hanzi, since people type their readings, and
halves of surrogate pairs, which have no UTF-8."""

SCORES_PER_NAT = 1024
"""Scores are natural logarithms times this, rounded: sums of them are exact, also as float32 in sentencepiece."""

UNKNOWN_PENALTY = 10 * SCORES_PER_NAT
"""How much a character that is no piece is worse than the worst piece, as in sentencepiece."""


@dataclass(frozen=True)
class Pieces:
    """A unigram language model of runs (Kudo 2018)."""

    texts: tuple[str, ...]
    """The pieces, in the order of their ids."""
    scores: tuple[int, ...]
    """Their log-probabilities in 1 / SCORES_PER_NAT."""

    def __post_init__(self) -> None:
        """Raises `ValueError`, saying what, where these cannot be pieces."""
        if len(set(self.texts)) != len(self.texts) or not all(map(RUN.fullmatch, self.texts)):
            raise ValueError("pieces are not distinct runs of letters and digits")
        if len(self.scores) != len(self.texts) or any(type(score) is not int for score in self.scores):
            raise ValueError("the scores of the pieces are not one integer each")

    def cut(self, run: str) -> list[str]:
        """The likeliest way to write a run as pieces; a character that is none stands alone. Time grows as its length.

        Among ways of the same likelihood the last piece is the longest possible, then the one before it.
        """
        best = [0] * (len(run) + 1)
        begun = [-1] * (len(run) + 1)
        for start in range(len(run)):
            for end in range(start + 1, min(start + self._longest, len(run)) + 1):
                score = self._score_of.get(run[start:end])
                if score is None:
                    if end > start + 1:
                        continue
                    score = self._unknown_score
                if begun[end] < 0 or best[start] + score > best[end]:
                    best[end], begun[end] = best[start] + score, start
        pieces = []
        end = len(run)
        while end:
            pieces.append(run[begun[end] : end])
            end = begun[end]
        return pieces[::-1]

    @cached_property
    def _score_of(self) -> dict[str, int]:
        return dict(zip(self.texts, self.scores, strict=True))

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.texts), default=1)

    @cached_property
    def _unknown_score(self) -> int:
        return min(self.scores, default=0) - UNKNOWN_PENALTY
