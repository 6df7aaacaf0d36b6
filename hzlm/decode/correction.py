"""What the beam search goes by when it corrects: any hanzi may stand where one is written, at a price."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.decode.beam import PositionChoices, Prefix
from hzlm.decode.calibration import Caution
from hzlm.decode.scorers import ModelScorer
from hzlm.pinyin import is_hanzi
from hzlm.vocabulary import Vocabulary

LEAST_PROBABILITY = 1e-6
"""Of an unknown hanzi: what float32 leaves of 1 less a probability is no surer."""


def mark_hanzi(vocabulary: Vocabulary) -> Tensor:
    """bool [targets]: which of them are hanzi; index i is the token id target_start + i."""
    texts = [token.partition(":")[2] for token in vocabulary.tokens[vocabulary.target_start :]]
    return torch.tensor([len(text) == 1 and is_hanzi(text) for text in texts])


class CorrectionTable:
    """At each position every target, and last what is written there; only hanzi are there to be taken."""

    def __init__(self, hanzi: Tensor, written: Tensor) -> None:
        """Serves one batch.

        Args:
            hanzi: bool [targets], which targets are hanzi (`mark_hanzi`).
            written: bool [B, N], where the source has hanzi, be they known or not. All else stands for itself.
        """
        self._barred = hanzi.logical_not()
        self._written = written

    def choices(self, source: Tensor) -> Iterator[PositionChoices]:
        """As `hzlm.decode.beam.Table.choices`; the readings say nothing. The next choices take the place of these."""
        start = Vocabulary.target_start
        targets = torch.arange(start, start + len(self._barred), device=source.device)
        # all but the last column is the same at each position, and no choices are looked at once the next are taken
        ids = functional.pad(targets.expand(len(source), -1), (0, 1))
        missing = functional.pad(self._barred.expand(len(source), -1), (0, 1))
        reading = torch.zeros_like(ids, dtype=torch.float32)
        for own, given in zip(source.unbind(1), self._written.logical_not().unbind(1), strict=True):
            ids[:, -1] = own
            torch.logical_or(self._barred | given[:, None], targets == own[:, None], out=missing[:, :-1])
            yield PositionChoices(ids, missing, reading, given)

    def last_open(self, source: Tensor) -> Tensor:
        """As `hzlm.decode.beam.Table.last_open`."""
        places = torch.arange(source.shape[1], device=source.device)
        return torch.where(self._written, places, -1).amax(dim=1)


class CorrectionScorer:
    """The model's log-probabilities over all targets, where what is written has an advantage (`Caution`)."""

    def __init__(self, model: ModelScorer, caution: Caution) -> None:
        self._model = model
        self._caution = caution

    def start(self, source: Tensor, lengths: Tensor, beam: int, prefix: Prefix) -> None:
        """As `hzlm.decode.beam.Scorer.start`."""
        self._model.start(source, lengths, beam, prefix)

    def score(self, position: int, tokens: Tensor, choices: PositionChoices) -> Tensor:
        """As `hzlm.decode.beam.Scorer.score`, of the choices of a `CorrectionTable`; no logarithm of a probability."""
        likelihood = self._model.step(tokens)
        own = likelihood_of_written(likelihood, choices.ids[:, -1, None])
        likelihood.masked_fill_(likelihood < own + self._caution.threshold, -torch.inf)
        found = torch.cat([likelihood, own + self._caution.bias], dim=2)
        return found.masked_fill_(choices.given[:, None, None], 0.0)

    def outlook(self, choices: Iterable[PositionChoices]) -> None:
        """Nothing is expected: the model has read the whole source."""

    def reorder(self, rows: Tensor) -> None:
        """As `hzlm.decode.beam.Scorer.reorder`."""
        self._model.reorder(rows)


def likelihood_of_written(likelihood: Tensor, written: Tensor) -> Tensor:
    """What is written is as likely as the model says; an unknown hanzi, of which it says nothing, as all that is not
    the likeliest target.

    Args:
        likelihood: float32 [..., targets], log-probabilities; index i is the token id target_start + i.
        written: int64, token ids, of a shape that can be broadcast to [...].

    Returns:
        float32 [..., 1].
    """
    places = (written - Vocabulary.target_start).expand(likelihood.shape[:-1])[..., None]
    rest = likelihood.amax(dim=-1, keepdim=True).expm1().neg().clamp(min=LEAST_PROBABILITY).log()
    return torch.where(places < 0, rest, likelihood.gather(-1, places.clamp(min=0)))
