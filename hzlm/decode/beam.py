"""Beam search over hanzi that have the given readings.

The length of the output is known and every position has its own candidates, so there is no end token, no length
penalty, and no hypothesis ends before another. A scorer (`hzlm.decode.scorers`) says how likely each candidate is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hzlm.vocabulary import Vocabulary

PENALTY = 2.0
"""Nats that it costs a reading to be another one than the source says (`CandidateTable`)."""
NONE: Mapping[int, Sequence[int]] = MappingProxyType({})


@dataclass(frozen=True)
class Hypotheses:
    """`ids`: int64 [B, K, N - P], token ids behind the prefix, best first, 0 after the end of a sentence.
    `log_probability`: float32 [B, K], the sum of what the scorer said; minus infinity, with ids of 0, where no
    hypothesis is left."""

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


@dataclass(frozen=True)
class Prefix:
    """What of each source is context: its first P positions stand for themselves, and count for nothing."""

    length: int = 0
    """P, the same for all B sources."""
    begun: tuple[int, ...] = ()
    """Of each source, how many of them, the last ones, belong to the sentence that goes on; may be empty where P is
    0."""


NO_PREFIX = Prefix()


class Scorer(Protocol):
    """What rates the hypotheses of one search: B sentences with K beams each, from the first open position (that behind
    the prefix) to the last."""

    def start(self, source: Tensor, lengths: Tensor, beam: int, prefix: Prefix) -> None:
        """Before the first open position: source int64 [B, N], lengths int64 [B], K = beam; both with the prefix."""

    def score(self, position: int, tokens: Tensor, choices: PositionChoices) -> Tensor:
        """float32 [B, K, C], the caller's to change: log-probability of each choice, anything where it is missing.

        Args:
            position: counted from the start of the source.
            tokens: int64 [B, K], what each hypothesis has at the position before; [BOS] at position 0.
        """

    def outlook(self, choices: Iterable[PositionChoices]) -> list[Tensor] | None:
        """What may be expected of the rest of a sentence after each choice of each open position: float32 [B, C] each.

        It decides with the score which hypotheses are kept, and is no part of the score; 0 at the last position. None
        where nothing is expected. Called once, after `start`.
        """

    def reorder(self, rows: Tensor) -> None:
        """Lets hypothesis i of the B * K go on from what was hypothesis rows[i] of the same sentence; int64 [B * K]."""


class Table(Protocol):
    """What the positions of a source may be answered with."""

    def choices(self, source: Tensor) -> Iterator[PositionChoices]:
        """source int64 [B, N] -> for each of the N positions what it allows in the B sentences."""

    def last_open(self, source: Tensor) -> Tensor:
        """source int64 [B, N] -> int64 [B]: the last position that the source does not tell itself; -1 without one."""


class CandidateTable:
    """The targets that each source token allows."""

    def __init__(
        self, vocabulary: Vocabulary, alternatives: Mapping[int, Sequence[int]] = NONE, penalty: float = PENALTY
    ) -> None:
        """Syllables allow the hanzi that are read so; characters stand for themselves, also unknown ones.

        Args:
            vocabulary: says which hanzi are read how.
            alternatives: source token -> further ones that may be meant, whose targets are allowed beside its own.
            penalty: nats that the reading of these targets costs more. A target that several of the tokens allow is
                read as it is likeliest.
        """
        self._vocabulary = vocabulary
        self._alternatives = alternatives
        self._penalty = penalty

    def count(self, token: int) -> int:
        """How many targets a source token allows, those that several of its alternatives allow once for each."""
        if token in (self._vocabulary.unknown_id, self._vocabulary.pad_id):
            return 1
        return sum(len(self._vocabulary.candidates(one)) for one in (token, *self._alternatives.get(token, ())))

    def choices(self, source: Tensor) -> Iterator[PositionChoices]:
        """As `Table.choices`. Raises `ValueError` for a token that allows nothing."""
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
        """As `Table.last_open`."""
        places = torch.arange(source.shape[1], device=source.device)
        return torch.where(self._given(source), -1, places).amax(dim=1)

    def _given(self, source: Tensor) -> Tensor:
        known = source >= self._vocabulary.target_start
        return known | (source == self._vocabulary.unknown_id) | (source == self._vocabulary.pad_id)

    def _allowed(self, token: int) -> tuple[Tensor, Tensor]:
        """int64 [C] ids and float32 [C] reading."""
        if token in (self._vocabulary.unknown_id, self._vocabulary.pad_id):
            return torch.tensor([token]), torch.zeros(1)
        tokens = (token, *self._alternatives.get(token, ()))
        candidates = np.concatenate([self._vocabulary.candidates(one) for one in tokens])
        readings = np.concatenate([self._vocabulary.reading_log_probabilities(one) for one in tokens])
        if len(candidates) == 0:
            raise ValueError(f"no target is allowed where the source has {self._vocabulary.tokens[token]}")
        if len(tokens) > 1:
            readings[len(self._vocabulary.candidates(token)) :] -= self._penalty
            likeliest = np.argsort(-readings, kind="stable")
            _, first = np.unique(candidates[likeliest], return_index=True)
            kept = likeliest[np.sort(first)]
            candidates, readings = candidates[kept], readings[kept]
        return torch.from_numpy(candidates).long(), torch.from_numpy(readings)


@torch.inference_mode()
def beam_search(
    scorer: Scorer,
    source: Tensor,
    lengths: Tensor,
    table: Table,
    beam: int,
    n_best: int | None = None,
    prefix: Prefix = NO_PREFIX,
) -> Hypotheses:
    """The best targets of each source; beam 1 is greedy search.

    Args:
        scorer: what is searched for; serves this one search.
        source: int64 [B, N], [PAD] (0) after the end of a sentence.
        lengths: int64 [B], each in 1..N, and above P.
        table: what each source token allows.
        beam: hypotheses kept at each position.
        n_best: hypotheses given; None stands for `beam`. Where it is more, the last open position of a sentence gives
            as many.
        prefix: what of the sources is context.
    """
    batch, longest = source.shape
    context = prefix.length
    kept = max(beam, n_best or beam)
    surplus = torch.arange(kept, device=source.device) >= beam
    unfinished = torch.arange(longest, device=source.device) < table.last_open(source)[:, None]
    scorer.start(source, lengths, kept, prefix)
    scores = torch.full((batch, kept), -torch.inf, device=source.device)
    scores[:, 0] = 0.0
    before = source[:, context - 1, None] if context else source.new_full((batch, 1), Vocabulary.bos_id)
    tokens = before.expand(-1, kept)
    first_row = torch.arange(batch, device=source.device)[:, None] * kept
    steps = []
    outlooks = scorer.outlook(table.choices(source[:, context:]))
    for position, choices in enumerate(table.choices(source[:, context:]), start=context):
        likelihood = scorer.score(position, tokens, choices).masked_fill_(choices.missing[:, None], -torch.inf)
        likelihood += scores[:, :, None]
        hopes = likelihood if outlooks is None else likelihood + outlooks[position - context][:, None]
        picked = hopes.flatten(1).topk(kept, dim=1).indices
        scores = likelihood.flatten(1).gather(1, picked)
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
