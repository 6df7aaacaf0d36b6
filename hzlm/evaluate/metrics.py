"""Metrics of converted sentences: pure functions of references and what a system gave.

References and hypotheses are sentences in the same order, and a hypothesis is as long as its reference. Shares lie
between 0 and 1; BLEU is in percent, as papers give it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer

from hzlm.evaluate.bleu import character_bleu


@dataclass(frozen=True)
class Scores:
    """How well one system did on one set of sentences."""

    sentences: int
    characters: int
    """Those that are asked for by a syllable."""
    char_accuracy: float
    cer: float
    exact_match: float
    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    top1: float | None
    """Share of the references that are the first candidate; None for a system with a single answer."""
    top5: float | None
    """Share of the references among the first five candidates."""
    top10: float | None


def character_accuracy(
    references: Sequence[str], hypotheses: Sequence[str], counted: Sequence[Sequence[bool]]
) -> float:
    """Share of right characters among the counted ones, over all sentences; 1 where nothing is counted."""
    right = total = 0
    for reference, hypothesis, counts in zip(references, hypotheses, counted, strict=True):
        for expected, given, count in zip(reference, hypothesis, counts, strict=True):
            total += count
            right += count and expected == given
    return right / total if total else 1.0


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Edit distance in characters, summed, by the summed length of the references (jiwer)."""
    return float(jiwer.cer(list(references), list(hypotheses)))


def exact_match(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Share of sentences without a wrong character."""
    return sum(map(str.__eq__, references, hypotheses)) / len(references)


def hit_rate(references: Sequence[str], candidates: Sequence[Sequence[str]], k: int) -> float:
    """Share of sentences whose reference is among their first `k` candidates."""
    hits = sum(reference in found[:k] for reference, found in zip(references, candidates, strict=True))
    return hits / len(references)


def score(
    references: Sequence[str],
    candidates: Sequence[Sequence[str]],
    counted: Sequence[Sequence[bool]],
    ranked: bool,
) -> Scores:
    """All metrics of one system.

    Args:
        references: one sentence or more.
        candidates: of each sentence, best first.
        counted: of each sentence, which characters are asked for by a syllable.
        ranked: whether the system offers candidates to choose from, which the hit rates then measure.
    """
    best = [found[0] for found in candidates]
    return Scores(
        sentences=len(references),
        characters=sum(map(sum, counted)),
        char_accuracy=character_accuracy(references, best, counted),
        cer=character_error_rate(references, best),
        exact_match=exact_match(references, best),
        **character_bleu(references, best)._asdict(),
        top1=hit_rate(references, candidates, 1) if ranked else None,
        top5=hit_rate(references, candidates, 5) if ranked else None,
        top10=hit_rate(references, candidates, 10) if ranked else None,
    )
