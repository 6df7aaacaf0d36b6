"""The Converter: pinyin in, hanzi out. This is what other programs import."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from hzlm.decode.beam import CandidateTable, Scorer, beam_search
from hzlm.decode.companion import Companion
from hzlm.decode.scorers import FusedScorer, ModelScorer, NgramScorer
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.pretrained import load_model
from hzlm.pinyin import LITERAL, parse_pinyin
from hzlm.vocabulary import Vocabulary

BATCH_SIZE = 64
"""Sentences of about equal length that are searched together."""

System = Literal["model", "n-gram", "fused"]
"""What a search goes by: the model, the n-gram model of its companion, or both."""

NARROWEST: Mapping[System, int] = MappingProxyType({"model": 4, "fused": 30, "n-gram": 60})
"""Beam width where no wider one is asked for: enough that the best answer is rarely lost on the way.

The model has read the whole source and needs the least; an n-gram model sees nothing of what follows."""


@dataclass(frozen=True)
class Candidate:
    """One conversion of a whole text."""

    text: str
    """As many characters as the source stands for (`Source.characters`)."""
    log_probability: float
    """Natural logarithm, summed over the positions that carry a syllable. With a companion its log-probability of the
    whole text, times its weight, is added: that still ranks candidates, but is a score, no probability."""


@dataclass(frozen=True)
class Source:
    """A checked text of N positions, as the model reads it."""

    ids: npt.NDArray[np.int64]
    """int64 [N], source token ids."""
    literals: tuple[str | None, ...]
    """What stands for itself at each position (`Vocabulary.cut`); None at syllables, which stand for one hanzi each."""

    @property
    def characters(self) -> tuple[str | None, ...]:
        """Each character of the sentence that stands for itself; None for each that a syllable asks for."""
        return tuple(character for literal in self.literals for character in ([None] if literal is None else literal))


class Converter:
    """Turns pinyin into hanzi with one trained model, and with its n-gram companion if it has one."""

    def __init__(self, model: EncoderDecoder, vocabulary: Vocabulary, companion: Companion | None = None) -> None:
        self.vocabulary = vocabulary
        self.companion = companion
        """May be replaced between two searches."""
        self._max_length = model.config.max_length
        self._device = model.tokens.weight.device
        self._scorer = ModelScorer(model.eval(), quick=True)
        self._table = CandidateTable(vocabulary)

    @classmethod
    def load(cls, path: Path | str) -> "Converter":
        """Read a checkpoint, or the latest one of a run folder, and the run folder's companion (`hzlm fuse`) if any.

        The path of a checkpoint gives the model alone. Raises `UserError` where something is missing or damaged.
        """
        model, vocabulary = load_model(Path(path))
        return cls(model, vocabulary, Companion.load(Path(path), vocabulary))

    def convert(self, pinyin: str) -> str:
        """The best conversion of one text. Raises `UserError` as `read` does."""
        return self.candidates([pinyin], n_best=1)[0][0].text

    def candidates(self, pinyin_list: Sequence[str], n_best: int = 5, beam: int | None = None) -> list[list[Candidate]]:
        """The conversions of each text, best first; fewer than `n_best` where there are no more.

        Args:
            pinyin_list: texts of syllables, with or without tone, and literal characters.
            n_best: candidates wanted of each text.
            beam: width of the search; None stands for `n_best`, but no narrower than NARROWEST.

        Raises:
            UserError: a text is no pinyin or too long.
        """
        sources = [self.read(text, f"text {number}") for number, text in enumerate(pinyin_list, start=1)]
        return self.search(sources, n_best, beam)

    def read(self, pinyin: str, where: str, lenient: bool = False) -> Source:
        """Check a text, whose place `where` names in messages.

        Args:
            lenient: a syllable that no hanzi of this model has becomes □ in the answer and is no error, so that a
                measurement can count it as wrong.

        Raises:
            UserError: it holds something that is no syllable, or a syllable that no hanzi of this model has,
                or it is empty or longer than the model can take.
        """
        ids: list[int] = []
        literals: list[str | None] = []
        numbered = enumerate(parse_pinyin(pinyin, where), start=1)
        # literals side by side are one text, cut as in training
        for is_literal, group in groupby(numbered, key=lambda item: item[1].startswith(LITERAL)):
            if is_literal:
                text = "".join(token.removeprefix(LITERAL) for _, token in group)
                ids += self.vocabulary.encode(text).tolist()
                literals += self.vocabulary.cut(text)
            else:
                for number, token in group:
                    ids.append(self._id_of_syllable(token, f"{where}, character {number}", lenient))
                    literals.append(None)
        if len(ids) > self._max_length:
            unit = "characters" if self.vocabulary.pieces is None else "positions"
            raise UserError(f"{where}: {len(ids)} {unit}, but this model takes {self._max_length} at most; split it")
        return Source(np.array(ids, dtype=np.int64), tuple(literals))

    def search(
        self,
        sources: Sequence[Source],
        n_best: int = 1,
        beam: int | None = None,
        advance: Callable[[int], None] | None = None,
        system: System | None = None,
    ) -> list[list[Candidate]]:
        """The conversions of each source, as `candidates` gives them.

        Args:
            advance: called after every batch with its number of sentences.
            system: what to go by; None stands for both where there is a companion, else for the model.
        """
        system = system or ("fused" if self.companion else "model")
        beam = max(NARROWEST[system], n_best) if beam is None else beam
        scorer = self._scorer_of(system)
        results: list[list[Candidate]] = [[] for _ in sources]
        by_length = sorted(range(len(sources)), key=lambda index: len(sources[index].ids))
        for start in range(0, len(sources), BATCH_SIZE):
            batch = by_length[start : start + BATCH_SIZE]
            rows = self._search_batch([sources[i] for i in batch], n_best, beam, scorer)
            for index, found in zip(batch, rows, strict=True):
                results[index] = found
            if advance is not None:
                advance(len(batch))
        return results

    def _scorer_of(self, system: System) -> Scorer:
        if system == "model":
            return self._scorer
        if self.companion is None:
            raise ValueError(f"no companion, and so no search by {system}")
        ngram = NgramScorer(self.companion.ngram.to(self._device))
        return ngram if system == "n-gram" else FusedScorer(self._scorer, ngram, self.companion.weight)

    def _search_batch(self, sources: Sequence[Source], n_best: int, beam: int, scorer: Scorer) -> list[list[Candidate]]:
        rows = [torch.from_numpy(source.ids) for source in sources]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.vocabulary.pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        found = beam_search(scorer, padded.to(self._device), lengths.to(self._device), self._table, beam, n_best)
        return [
            [
                Candidate(self._text(ids[: len(source.ids)], source.literals), log_probability)
                for ids, log_probability in zip(all_ids, log_probabilities, strict=True)
                if log_probability > -np.inf
            ]
            for source, all_ids, log_probabilities in zip(
                sources, found.ids.tolist(), found.log_probability.tolist(), strict=True
            )
        ]

    def _text(self, ids: Sequence[int], literals: Sequence[str | None]) -> str:
        """Literals stand for themselves, also those that the vocabulary lacks."""
        texts = self.vocabulary.texts(ids)
        return "".join(text if literal is None else literal for text, literal in zip(texts, literals, strict=True))

    def _id_of_syllable(self, token: str, where: str, lenient: bool) -> int:
        token_id = self.vocabulary.id_of(token)
        if len(self.vocabulary.candidates(token_id)) == 0:
            if lenient:
                return self.vocabulary.unknown_id
            reading = token.partition(":")[2]
            remedy = f"leave the tone out: {reading[:-1]}" if reading[-1].isdigit() else "train with text that has one"
            raise UserError(f"{where}: this model knows no hanzi that is read {reading}; {remedy}")
        return token_id
