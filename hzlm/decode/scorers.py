"""Scorers of the beam search: the model, an n-gram model, and both together."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from hzlm.decode.beam import PositionChoices, Prefix, Scorer
from hzlm.decode.incremental import IncrementalDecoder
from hzlm.decode.lookahead import look_ahead
from hzlm.decode.ngram import END_ID, NgramModel
from hzlm.decode.packed import can_pack, has_bfloat16, pack_linears
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary

FEW_ROWS = 16
"""Hypotheses of a search (sentences x beam) up to which packed weights are the faster ones."""


class ModelScorer:
    """The encoder-decoder, one position after the other.

    Log-probabilities are over all targets, not over the choices of a position: a hypothesis whose next hanzi the
    model finds unlikely under any reading pays for it. A given choice costs nothing.
    """

    def __init__(self, model: EncoderDecoder, quick: bool = False) -> None:
        """Serves one search after the other.

        Args:
            quick: on CPUs that have what it takes, hold the weights in 16 bits: packed for few rows
                (`hzlm.decode.packed`), bfloat16 for many. Without it the model computes as it is.
        """
        device = model.tokens.weight.device
        narrow = quick and has_bfloat16(device)
        self._many = _Form.plain(copy.deepcopy(model).bfloat16() if narrow else model)
        self._few = _Form.packed(model) if quick and can_pack(device) else self._many

    def start(self, source: Tensor, lengths: Tensor, beam: int, prefix: Prefix) -> None:
        """Encodes the sources, and runs the decoder over the prefix."""
        self._encode(source, lengths, beam)
        if prefix.length:
            self._decoder.fill(_behind_bos(source[:, : prefix.length]))

    def judge(self, source: Tensor, lengths: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        """What the model says at M positions of sentences whose targets are given: one pass, no search.

        Args:
            source: int64 [B, N].
            lengths: int64 [B].
            target: int64 [B, N].
            wanted: bool [B, N], M of them true.

        Returns:
            float32 [M, targets], log-probabilities; index i is the token id target_start + i.
        """
        self._encode(source, lengths, beam=1)
        hidden = self._decoder.fill(_behind_bos(target))[wanted]
        return self._decoder.logits(hidden).log_softmax(dim=-1, dtype=torch.float32)

    def _encode(self, source: Tensor, lengths: Tensor, beam: int) -> None:
        segments = (torch.arange(source.shape[1], device=source.device) < lengths[:, None]).int()
        form = self._few if len(source) * beam <= FEW_ROWS else self._many
        self._decoder = form.decoder
        self._decoder.start(form.model.encode(source, segments), segments, beam)

    def step(self, tokens: Tensor) -> Tensor:
        """Log-probabilities of all targets, where `score` gives those of some: float32 [B, K, targets].

        tokens: int64 [B, K], as of `score`. Index i of the result is the token id target_start + i.
        """
        return self._decoder.step(tokens).log_softmax(dim=-1, dtype=torch.float32).view(*tokens.shape, -1)

    def score(self, position: int, tokens: Tensor, choices: PositionChoices) -> Tensor:
        """As `hzlm.decode.beam.Scorer.score`."""
        likelihood = self.step(tokens)
        places = (choices.ids - self._decoder.target_start).clamp_(min=0)[:, None].expand(-1, tokens.shape[1], -1)
        return likelihood.gather(2, places).masked_fill_(choices.given[:, None, None], 0.0)

    def outlook(self, choices: Iterable[PositionChoices]) -> None:
        """Nothing is expected: the model has read the whole source."""

    def reorder(self, rows: Tensor) -> None:
        """As `hzlm.decode.beam.Scorer.reorder`."""
        self._decoder.reorder(rows)


@dataclass(frozen=True)
class _Form:
    """The weights in one layout: the encoder's within a model, and the decoder's."""

    model: EncoderDecoder
    decoder: IncrementalDecoder

    @classmethod
    def plain(cls, model: EncoderDecoder) -> Self:
        return cls(model, IncrementalDecoder(model))

    @classmethod
    def packed(cls, model: EncoderDecoder) -> Self:
        wide = copy.deepcopy(model).float()
        decoder = IncrementalDecoder(wide, packed=True)
        pack_linears(wide.encoder)
        wide.decoder = nn.ModuleList()
        return cls(wide, decoder)


class NgramScorer:
    """An n-gram model as the source of a noisy channel: p(hanzi | the hanzi before) p(reading | hanzi).

    Given choices count as all others do, and the end of a sentence at its last position.
    """

    def __init__(self, model: NgramModel) -> None:
        self._model = model

    def start(self, source: Tensor, lengths: Tensor, beam: int, prefix: Prefix) -> None:
        """Every hypothesis is behind <s> and what has begun of its sentence."""
        self._last_positions = lengths - 1
        self._first = prefix.length
        # from the empty context [BOS] leads to <s>; how likely it, or what has begun, is counts for nothing
        bos = source.new_full((len(source),), Vocabulary.bos_id)
        _, contexts = self._model.look_up(torch.zeros_like(bos), bos)
        starts = self._first - torch.tensor(prefix.begun or [0], device=source.device)
        for column in range(self._first - max(prefix.begun, default=0), self._first):
            _, following = self._model.look_up(contexts, source[:, column])
            contexts = torch.where(column >= starts, following, contexts)
        self._contexts = contexts[:, None].repeat(1, beam)

    def score(self, position: int, tokens: Tensor, choices: PositionChoices) -> Tensor:
        """As `hzlm.decode.beam.Scorer.score`; 0 after the end of a sentence."""
        if position > self._first:
            _, self._contexts = self._model.look_up(self._contexts, tokens)
        likelihood, following = self._model.look_up(self._contexts[:, :, None], choices.ids[:, None])
        likelihood += choices.reading[:, None]
        last = self._last_positions == position
        end = torch.full_like(following[last], END_ID)
        likelihood[last] += self._model.look_up(following[last], end)[0]
        return likelihood.masked_fill((self._last_positions < position)[:, None, None], 0.0)

    def outlook(self, choices: Iterable[PositionChoices]) -> list[Tensor]:
        """As `hzlm.decode.beam.Scorer.outlook`: what the bigrams of the model tell."""
        return look_ahead(self._model.bigrams, list(choices), self._last_positions - self._first)

    def reorder(self, rows: Tensor) -> None:
        """As `hzlm.decode.beam.Scorer.reorder`."""
        self._contexts = self._contexts.flatten()[rows].view(self._contexts.shape)


class FusedScorer:
    """Shallow fusion (Gulcehre et al. 2015): log p of one scorer and `weight` times log p of another."""

    def __init__(self, main: Scorer, companion: Scorer, weight: float) -> None:
        self._main, self._companion, self._weight = main, companion, weight

    def start(self, source: Tensor, lengths: Tensor, beam: int, prefix: Prefix) -> None:
        """Starts both."""
        self._main.start(source, lengths, beam, prefix)
        self._companion.start(source, lengths, beam, prefix)

    def score(self, position: int, tokens: Tensor, choices: PositionChoices) -> Tensor:
        """As `hzlm.decode.beam.Scorer.score`, but no logarithm of a probability."""
        return self._main.score(position, tokens, choices).add_(
            self._companion.score(position, tokens, choices), alpha=self._weight
        )

    def outlook(self, choices: Iterable[PositionChoices]) -> list[Tensor] | None:
        """As `hzlm.decode.beam.Scorer.outlook`: that of the companion."""
        outlooks = self._companion.outlook(choices)
        return None if outlooks is None else [outlook * self._weight for outlook in outlooks]

    def reorder(self, rows: Tensor) -> None:
        """As `hzlm.decode.beam.Scorer.reorder`."""
        self._main.reorder(rows)
        self._companion.reorder(rows)


def _behind_bos(tokens: Tensor) -> Tensor:
    """int64 [B, N] -> int64 [B, N]: what the decoder is fed for these targets."""
    return functional.pad(tokens[:, :-1], (1, 0), value=Vocabulary.bos_id)
