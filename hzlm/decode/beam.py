"""Beam search over hanzi that have the given readings.

The length of the output is known and every position has its own candidates, so there is no end token, no length
penalty, and no hypothesis ends before another. A scorer (`hzlm.decode.scorers`) says how likely each candidate is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hzlm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Hypotheses:
    """`ids`: int64 [B, K, N], token ids, best first, 0 after the end of a sentence. `log_probability`: float32 [B, K],
    the sum of what the scorer said; minus infinity, with ids of 0, where no hypothesis is left."""

    ids: Tensor
    log_probability: Tensor


@dataclass(frozen=True)
class PositionChoices:
    """What each sentence may say at one position: `ids` int64 [B, C]; `missing` bool [B, C], true where a
    sentence has fewer than C; `reading` float32 [B, C], logarithm of the share of the hanzi's occurrences that are read
    as the source says; and `given` bool [B]: whether the source itself tells the one answer, as it also does after
    the end of the sentence ([PAD])."""

    ids: Tensor
    missing: Tensor
    reading: Tensor
    given: Tensor


class Scorer(Protocol):
    """What rates the hypotheses of one search: B sentences with K beams each, from the first position to the last."""

    def start(self, source: Tensor, lengths: Tensor, beam: int) -> None:
        """Before the first position: source int64 [B, N], lengths int64 [B], K = beam."""

    def score(self, position: int, tokens: Tensor, choices: PositionChoices) -> Tensor:
        """float32 [B, K, C], the caller's to change: log-probability of each choice, anything where it is missing.

        Args:
            tokens: int64 [B, K], what each hypothesis has at the position before; [BOS] at position 0.
        """

    def reorder(self, rows: Tensor) -> None:
        """Lets hypothesis i of the B * K go on from what was hypothesis rows[i]; rows int64 [B * K]."""


class CandidateTable:
    """The targets that each source token allows."""

    def __init__(self, vocabulary: Vocabulary):
        """Syllables allow the hanzi that are read so; characters stand for themselves, also unknown ones."""
        self._vocabulary = vocabulary

    def choices(self, source: Tensor) -> Iterator[PositionChoices]:
        """source int64 [B, N] -> for each of the N positions what its B tokens allow."""
        distinct, places = source.unique(return_inverse=True)
        pairs = [self._allowed(token) for token in distinct.tolist()]
        allowed, readings = [ids for ids, _ in pairs], [reading for _, reading in pairs]
        counts = torch.tensor([len(ids) for ids in allowed], device=source.device)
        padded = torch.nn.utils.rnn.pad_sequence(allowed, batch_first=True).to(source.device)
        reading = torch.nn.utils.rnn.pad_sequence(readings, batch_first=True).to(source.device)
        missing = torch.arange(padded.shape[1], device=source.device) >= counts[:, None]
        given = self._given(distinct)
        widths = counts[places].amax(dim=0).tolist()
        for rows, width in zip(places.unbind(1), widths, strict=True):
            yield PositionChoices(padded[rows, :width], missing[rows, :width], reading[rows, :width], given[rows])

    def last_open(self, source: Tensor) -> Tensor:
        """source int64 [B, N] -> int64 [B]: the last position that the source does not tell itself; -1 without one."""
        places = torch.arange(source.shape[1], device=source.device)
        return torch.where(self._given(source), -1, places).amax(dim=1)

    def _given(self, source: Tensor) -> Tensor:
        known = source >= self._vocabulary.target_start
        return known | (source == self._vocabulary.unknown_id) | (source == self._vocabulary.pad_id)

    def _allowed(self, token: int) -> tuple[Tensor, Tensor]:
        """int64 [C] ids and float32 [C] reading."""
        if token in (self._vocabulary.unknown_id, self._vocabulary.pad_id):
            return torch.tensor([token]), torch.zeros(1)
        candidates = self._vocabulary.candidates(token)
        if len(candidates) == 0:
            raise ValueError(f"no target is allowed where the source has {self._vocabulary.tokens[token]}")
        return torch.from_numpy(candidates).long(), torch.from_numpy(self._vocabulary.reading_log_probabilities(token))


@torch.inference_mode()
def beam_search(
    scorer: Scorer, source: Tensor, lengths: Tensor, table: CandidateTable, beam: int, n_best: int | None = None
) -> Hypotheses:
    """The best targets of each source; beam 1 is greedy search.

    Args:
        scorer: what is searched for; serves this one search.
        source: int64 [B, N], [PAD] (0) after the end of a sentence.
        lengths: int64 [B], each in 1..N.
        table: what each source token allows. Raises ValueError for a token that allows nothing.
        beam: hypotheses kept at each position.
        n_best: hypotheses given; None stands for `beam`. Where it is more, the last open position of a sentence gives
            as many.
    """
    batch, longest = source.shape
    kept = max(beam, n_best or beam)
    surplus = torch.arange(kept, device=source.device) >= beam
    unfinished = torch.arange(longest, device=source.device) < table.last_open(source)[:, None]
    scorer.start(source, lengths, kept)
    scores = torch.full((batch, kept), -torch.inf, device=source.device)
    scores[:, 0] = 0.0
    tokens = source.new_full((batch, kept), Vocabulary.bos_id)
    first_row = torch.arange(batch, device=source.device)[:, None] * kept
    steps = []
    for position, choices in enumerate(table.choices(source)):
        likelihood = scorer.score(position, tokens, choices).masked_fill_(choices.missing[:, None], -torch.inf)
        scores, picked = likelihood.add_(scores[:, :, None]).flatten(1).topk(kept, dim=1)
        if kept > beam:
            scores.masked_fill_(unfinished[:, position, None] & surplus, -torch.inf)
        parents = picked // likelihood.shape[2]
        tokens = choices.ids.gather(1, picked - parents * likelihood.shape[2])
        steps.append((parents, tokens))
        if kept > 1:
            scorer.reorder((first_row + parents).flatten())
    ids = _trace_back(steps).masked_fill_(scores.isneginf()[:, :, None], 0)
    return Hypotheses(ids[:, :n_best], scores[:, :n_best])


def _trace_back(steps: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """(where each hypothesis comes from, its token), both int64 [B, K], of N positions -> int64 [B, K, N]."""
    parents, tokens = steps[-1]
    path = [tokens]
    for before, chosen in reversed(steps[:-1]):
        path.append(chosen.gather(1, parents))
        parents = before.gather(1, parents)
    return torch.stack(path[::-1], dim=2)
