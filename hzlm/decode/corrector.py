"""The Corrector: text in, the same text with its wrong hanzi replaced out. This is what other programs import."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from hzlm.decode.beam import beam_search
from hzlm.decode.calibration import Caution
from hzlm.decode.converter import BATCH_SIZE, NARROWEST
from hzlm.decode.correction import CorrectionScorer, CorrectionTable, likelihood_of_written, mark_hanzi
from hzlm.decode.scorers import ModelScorer
from hzlm.decode.sentences import sentence_ends
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.pretrained import load_model
from hzlm.pinyin import is_hanzi
from hzlm.vocabulary import Vocabulary

BEAM = NARROWEST["model"]
"""Width of the search."""


@dataclass(frozen=True)
class Change:
    """One hanzi for another."""

    position: int
    """Index in the text, from 0."""
    wrong: str
    right: str
    gain: float
    """By how many nats the model finds `right` likelier than `wrong`, given the corrected text before it."""


@dataclass(frozen=True)
class Correction:
    """A corrected text."""

    text: str
    """As long as the input."""
    changes: tuple[Change, ...]
    """Where it differs from the input, in the order of the text."""


@dataclass(frozen=True)
class _Piece:
    """A sentence of a text, or what of it fits into the model: N positions, and where they stand in the text."""

    text: int
    """Number of the text."""
    ids: list[int]
    written: list[bool]
    """Which positions have a hanzi."""
    places: list[int]
    """Index in the text of the last character of each position."""


class Corrector:
    """Replaces wrong hanzi with one trained model. What is no hanzi never changes."""

    def __init__(self, model: EncoderDecoder, vocabulary: Vocabulary, caution: Caution | None = None) -> None:
        """caution: None stands for the defaults."""
        self.vocabulary = vocabulary
        self.caution = caution or Caution()
        """May be replaced between two texts."""
        self._max_length = model.config.max_length
        self._device = model.tokens.weight.device
        self._model = ModelScorer(model.eval(), quick=True)
        self._hanzi = mark_hanzi(vocabulary).to(self._device)

    @classmethod
    def load(cls, path: Path | str) -> "Corrector":
        """Read a checkpoint, or the latest one of a run folder, and the run folder's calibration (`hzlm calibrate`) if
        any.

        Raises `UserError` where something is missing or damaged.
        """
        model, vocabulary = load_model(Path(path))
        return cls(model, vocabulary, Caution.load(Path(path)))

    def correct(self, text: str) -> Correction:
        """The correction of one text, which may be of any length, also empty."""
        return self.correct_many([text])[0]

    def correct_many(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> list[Correction]:
        """The corrections of several texts, in their order.

        Each sentence (`hzlm.decode.sentences`) is corrected on its own, as models are trained; one that is longer than
        the model can take, in pieces that are as long as it can.

        Args:
            texts: of any length, also empty.
            advance: called now and then with the number of texts that were done since.
        """
        pieces = [piece for number, text in enumerate(texts) for piece in self._cut(number, text)]
        pieces.sort(key=lambda piece: len(piece.ids))
        changes: list[list[Change]] = [[] for _ in texts]
        waiting = [0] * len(texts)
        for piece in pieces:
            waiting[piece.text] += 1
        if advance is not None:
            advance(waiting.count(0))
        for start in range(0, len(pieces), BATCH_SIZE):
            batch = pieces[start : start + BATCH_SIZE]
            for piece, found in zip(batch, self._correct_batch(batch, texts), strict=True):
                changes[piece.text] += found
                waiting[piece.text] -= 1
            if advance is not None:
                advance(len({piece.text for piece in batch if waiting[piece.text] == 0}))
        return [_apply(text, of_text) for text, of_text in zip(texts, changes, strict=True)]

    def _cut(self, number: int, text: str) -> list[_Piece]:
        """The pieces of a text that have a hanzi."""
        ids, units = self.vocabulary.encode(text).tolist(), self.vocabulary.cut(text)
        lasts = [end - 1 for end in accumulate(map(len, units))]
        written = [len(unit) == 1 and is_hanzi(unit) for unit in units]
        characters = [place for place, unit in enumerate(units, start=1) if unit]
        place_of = {lasts[place - 1] + 1: place for place in characters}
        ends = [place_of[end] for end in sentence_ends(text)]
        pieces = []
        start = 0
        for end in [*ends, len(ids)]:
            while start < end:
                most = start + self._max_length
                fitting = characters[bisect_right(characters, most) - 1]
                stop = end if end <= most else fitting if start < fitting <= most else most
                if any(written[start:stop]):
                    pieces.append(_Piece(number, ids[start:stop], written[start:stop], lasts[start:stop]))
                start = stop
        return pieces

    @torch.inference_mode()
    def _correct_batch(self, pieces: Sequence[_Piece], texts: Sequence[str]) -> list[list[Change]]:
        source, written = self._pad([piece.ids for piece in pieces]), self._pad([piece.written for piece in pieces])
        lengths = torch.tensor([len(piece.ids) for piece in pieces], device=self._device)
        table = CorrectionTable(self._hanzi, written)
        target = beam_search(CorrectionScorer(self._model, self.caution), source, lengths, table, BEAM, 1).ids[:, 0]
        found: list[list[Change]] = [[] for _ in pieces]
        changed = target != source
        rows = changed.any(dim=1).nonzero()[:, 0]
        if len(rows) == 0:
            return found
        changed = changed[rows]
        likelihood = self._model.judge(source[rows], lengths[rows], target[rows], changed)
        right = target[rows][changed]
        before = likelihood_of_written(likelihood, source[rows][changed])[:, 0]
        gains = likelihood.gather(1, (right - self.vocabulary.target_start)[:, None])[:, 0] - before
        numbers = rows.tolist()
        new = self.vocabulary.texts(right.tolist())
        for (row, column), hanzi, gain in zip(changed.nonzero().tolist(), new, gains.tolist(), strict=True):
            piece = pieces[numbers[row]]
            place = piece.places[column]
            found[numbers[row]].append(Change(place, texts[piece.text][place], hanzi, gain))
        return found

    def _pad(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """0 or false after the end of a row."""
        tensors = [torch.tensor(row) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(self._device)


def _apply(text: str, changes: Sequence[Change]) -> Correction:
    characters = list(text)
    for change in changes:
        characters[change.position] = change.right
    return Correction("".join(characters), tuple(sorted(changes, key=lambda change: change.position)))
