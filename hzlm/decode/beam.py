"""Beam search over hanzi that have the given readings.

The length of the output is known and every position has its own candidates, so there is no end token, no length
penalty, and no hypothesis ends before another. Scores are log-probabilities over all targets, not over the
candidates of a position: a hypothesis whose next hanzi the model finds unlikely under any reading pays for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Hypotheses:
    """`ids`: int64 [B, K, N], token ids, best first, 0 after the end of a sentence. `log_probability`: float32 [B, K],
    the sum over the positions that were not given; minus infinity, with ids of 0, where no hypothesis is left."""

    ids: Tensor
    log_probability: Tensor


@dataclass(frozen=True)
class PositionChoices:
    """What each sentence may say at one position: `ids` int64 [B, C], `exists` bool [B, C], and `given` bool [B]:
    whether the source itself tells the one answer, which then costs nothing."""

    ids: Tensor
    exists: Tensor
    given: Tensor


class CandidateTable:
    """The targets that each source token allows."""

    def __init__(self, vocabulary: Vocabulary):
        """Syllables allow the hanzi that are read so; characters stand for themselves, also unknown ones."""
        self._vocabulary = vocabulary

    def choices(self, source: Tensor) -> Iterator[PositionChoices]:
        """source int64 [B, N] -> for each of the N positions what its B tokens allow."""
        distinct, places = source.cpu().unique(return_inverse=True)
        allowed = [self._allowed(token) for token in distinct.tolist()]
        counts = torch.tensor([len(ids) for ids in allowed])
        padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(ids) for ids in allowed], batch_first=True)
        given = (distinct >= self._vocabulary.target_start) | (distinct == self._vocabulary.unknown_id)
        given |= distinct == self._vocabulary.pad_id
        for position in range(source.shape[1]):
            rows = places[:, position]
            width = int(counts[rows].max())
            exists = torch.arange(width) < counts[rows, None]
            parts = padded[rows, :width], exists, given[rows]
            yield PositionChoices(*(part.to(source.device) for part in parts))

    def _allowed(self, token: int) -> np.ndarray:
        if token in (self._vocabulary.unknown_id, self._vocabulary.pad_id):
            return np.array([token], dtype=np.int64)
        candidates = self._vocabulary.candidates(token)
        if len(candidates) == 0:
            raise ValueError(f"no target is allowed where the source has {self._vocabulary.tokens[token]}")
        return candidates.astype(np.int64)


@torch.inference_mode()
def beam_search(model: EncoderDecoder, source: Tensor, lengths: Tensor, table: CandidateTable, beam: int) -> Hypotheses:
    """The `beam` best targets of each source; beam 1 is greedy search.

    Args:
        source: int64 [B, N], [PAD] (0) after the end of a sentence.
        lengths: int64 [B], each in 1..N.
        table: what each source token allows. Raises ValueError for a token that allows nothing.
        beam: hypotheses kept at each position.
    """
    batch, longest = source.shape
    segments = (torch.arange(longest, device=source.device) < lengths[:, None]).int()
    memory = model.encode(source, segments)
    caches = model.start(memory, segments, beam)
    scores = torch.full((batch, beam), -torch.inf, device=source.device)
    scores[:, 0] = 0.0
    ids = source.new_zeros(batch, beam, longest)
    tokens = source.new_full((batch, beam), Vocabulary.bos_id)
    first_row = torch.arange(batch, device=source.device)[:, None] * beam
    for position, choices in enumerate(table.choices(source)):
        hidden = model.step(tokens, position, memory, caches)
        likelihood = _score(model, hidden, choices)
        extended = (scores[:, :, None] + likelihood).flatten(1)
        width = likelihood.shape[2]
        scores, picked = extended.topk(beam, dim=1)
        parents, choice = picked // width, picked % width
        tokens = choices.ids.gather(1, choice)
        ids = ids.gather(1, parents[:, :, None].expand_as(ids))
        ids[:, :, position] = tokens
        if beam > 1:
            rows = (first_row + parents).flatten()
            for cache in caches:
                cache.reorder(rows)
    return Hypotheses(ids.masked_fill(scores.isneginf()[:, :, None], 0), scores)


def _score(model: EncoderDecoder, hidden: Tensor, choices: PositionChoices) -> Tensor:
    """hidden [B, K, W] -> float32 [B, K, C]: log-probability of each choice, 0 for the given one."""
    logits = model.logits(hidden).float()
    places = (choices.ids - model.target_start).clamp_(min=0)[:, None].expand(-1, hidden.shape[1], -1)
    likelihood = logits.gather(2, places) - logits.logsumexp(dim=2, keepdim=True)
    likelihood = likelihood.masked_fill(choices.given[:, None, None], 0.0)
    return likelihood.masked_fill(~choices.exists[:, None], -torch.inf)
