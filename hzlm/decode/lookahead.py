"""What an n-gram model expects of the rest of a sentence: it keeps the right hypotheses in a narrow beam.

An n-gram model says nothing of what follows, so the right hanzi often looks poor until the next syllables are read: to
keep it takes some fifty hypotheses. A pass from the end to the start with the model's bigrams alone (Viterbi) tells
what the best way on from each choice is worth. The forward search keeps those hypotheses whose score and outlook are
the best together, and ranks by the score alone in the end (tree-trellis search, Soong and Huang 1991).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hzlm.decode.beam import PositionChoices
from hzlm.decode.bigrams import Bigrams
from hzlm.decode.ngram import END_ID


def look_ahead(bigrams: Bigrams, choices: Sequence[PositionChoices], ends: Tensor) -> list[Tensor]:
    """What the best way on from each choice is worth, up to the end of its sentence.

    Args:
        bigrams: what is expected of it.
        choices: of B sentences at N positions.
        ends: int64 [B], the last position of each sentence, 0 to N - 1.

    Returns:
        For each position float32 [B, C], as `ids` of its choices: natural logarithms, 0 where a choice is missing or
        nothing follows.
    """
    last = ends.cpu().numpy()
    # of each sentence, what each word is worth where it follows: behind the last position nothing but the end does
    worth = np.full((len(last), len(bigrams.log_unigram)), -np.inf, np.float32)
    worth[:, END_ID] = 0.0
    outlooks: list[Tensor] = []
    for position in range(len(choices) - 1, -1, -1):
        at = choices[position]
        ids, missing, reading = at.ids.cpu().numpy(), at.missing.cpu().numpy(), at.reading.cpu().numpy()
        outlook = np.zeros(ids.shape, np.float32)
        inside = position <= last
        rows, columns = (~missing & inside[:, None]).nonzero()
        if len(rows):
            chosen = ids[rows, columns]
            ahead = bigrams.best_following(chosen, rows, worth)
            outlook[rows, columns] = np.where(position < last[rows], ahead, 0.0)
            worth[inside] = -np.inf
            worth[rows, chosen] = ahead + reading[rows, columns]
        outlooks.append(torch.from_numpy(outlook).to(at.ids.device))
    return outlooks[::-1]
