"""BLEU of characters."""

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU


class BleuScores(NamedTuple):
    """BLEU of n-grams up to 1, 2, 3 and 4 characters, in percent."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float


def character_bleu(references: Sequence[str], hypotheses: Sequence[str]) -> BleuScores:
    """Corpus BLEU (Papineni et al. 2002) by sacrebleu, tokenize="char".

    BLEU-N is the brevity penalty times the geometric mean of the N precisions. A precision is the clipped matches of
    all sentences, summed, by the n-grams of all hypotheses. Nothing is smoothed: BLEU-N is 0 where an order up to N has
    no match. (sacrebleu's own default, smooth_method="exp", differs in that case alone.) White space does not count.

    Args:
        references: one sentence or more.
        hypotheses: one of each reference.
    """
    found = BLEU(tokenize="char", smooth_method="none").corpus_score(list(hypotheses), [list(references)])
    scores = (
        BLEU.compute_bleu(found.counts[:n], found.totals[:n], found.sys_len, found.ref_len, max_ngram_order=n).score
        for n in range(1, 5)
    )
    return BleuScores(*map(float, scores))
