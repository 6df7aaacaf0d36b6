"""The Converter: pinyin in, hanzi out. This is what other programs import."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from hzlm.config import load_config
from hzlm.decode.beam import CandidateTable, Prefix, Scorer, beam_search
from hzlm.decode.companion import Companion
from hzlm.decode.context import encode_context
from hzlm.decode.scorers import FusedScorer, ModelScorer, NgramScorer
from hzlm.decode.tolerance import EXACT, Tolerance, tolerant_table
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.pretrained import find_checkpoint, load_model
from hzlm.pinyin import LITERAL, parse_pinyin
from hzlm.vocabulary import Vocabulary

BATCH_SIZE = 64
"""Sentences of about equal length that are searched together, at most."""
MOST_CHOICES = 1 << 20
"""Choices that the hypotheses of a batch have at one position, at most: each is looked up in an n-gram model.

Of a syllable 64 sentences stay far below it; a hidden position, which allows every target, makes batches small."""

System = Literal["model", "n-gram", "fused"]
"""What a search goes by: the model, the n-gram model of its companion, or both."""

NARROWEST: Mapping[System, int] = MappingProxyType({"model": 4, "fused": 16, "n-gram": 30})
"""Beam width where no wider one is asked for: enough that the best answer is rarely lost on the way.

The model has read the whole source and needs the least; an n-gram model's bigrams look ahead, but no more of it."""


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
    """A checked text as the model reads it: P positions of context, and N - P of the text itself."""

    ids: npt.NDArray[np.int64]
    """int64 [N], source token ids."""
    literals: tuple[str | None, ...]
    """What stands for itself at each of the N - P positions (`Vocabulary.cut`); None at syllables, which stand for one
    hanzi each."""
    context: int = 0
    """P."""
    begun: int = 0
    """How many of them, the last ones, belong to the sentence that the text goes on with."""
    tolerance: Tolerance = EXACT
    """What may be meant by the syllables."""

    @property
    def characters(self) -> tuple[str | None, ...]:
        """Each character of the text that stands for itself; None for each that a syllable asks for."""
        return tuple(character for literal in self.literals for character in ([None] if literal is None else literal))


class Converter:
    """Turns pinyin into hanzi with one trained model, and with its n-gram companion if it has one."""

    def __init__(
        self,
        model: EncoderDecoder,
        vocabulary: Vocabulary,
        companion: Companion | None = None,
        fuzzy: Sequence[str] = (),
        slips: bool = False,
        context: int | None = None,
        begun_alone: bool = False,
    ) -> None:
        """A converter without a companion goes by the model alone.

        Args:
            model: computes in its own dtype, or a narrower one (`hzlm.decode.scorers`).
            vocabulary: of the model.
            companion: its n-gram model.
            fuzzy: sounds that may stand for each other in what is typed (`hzlm.data_config.FUZZY_PAIRS`).
            slips: whether what is typed may have slips that make another syllable of one (`hzlm.sounds`).
            context: most positions of context that a text is given; None for all that there is room for.
            begun_alone: of a context, give the text only what has begun of its own sentence.
        """
        self.vocabulary = vocabulary
        self.companion = companion
        """May be replaced between two searches."""
        self.max_length = model.config.max_length
        """Most positions of a source, with its context."""
        self._most_context = self.max_length if context is None else context
        self._begun_alone = begun_alone
        self._device = model.tokens.weight.device
        self._scorer = ModelScorer(model.eval(), quick=True)
        self._tolerance = Tolerance(tuple(fuzzy), slips)
        self._tables: dict[Tolerance, CandidateTable] = {}

    @classmethod
    def load(cls, path: Path | str, fuzzy: Sequence[str] = (), slips: bool = False) -> "Converter":
        """Read a checkpoint, or the latest one of a run folder, and the run folder's companion (`hzlm fuse`) if any.

        Texts get as much context as the model was trained with: `data.context` positions at most; without it, where
        `data.begun_rate` is above 0, what has begun of their sentence; else none.

        Args:
            path: that of a checkpoint gives the model alone, without a companion.
            fuzzy, slips: as of `Converter`.

        Raises:
            UserError: something is missing or damaged.
        """
        path = Path(path)
        model, vocabulary = load_model(path)
        companion = Companion.load(path, vocabulary)
        folder = find_checkpoint(path)
        if folder is None:
            return cls(model, vocabulary, companion, fuzzy, slips)
        data = load_config(folder / "config.yaml").data
        begun_alone = data.context == 0 and data.begun_rate > 0
        return cls(model, vocabulary, companion, fuzzy, slips, None if begun_alone else data.context, begun_alone)

    def convert(self, pinyin: str, context: str = "") -> str:
        """The best conversion of one text; context and errors are as of `read`."""
        return self.candidates([pinyin], n_best=1, context=context)[0][0].text

    def candidates(
        self, pinyin_list: Sequence[str], n_best: int = 5, beam: int | None = None, context: str = ""
    ) -> list[list[Candidate]]:
        """The conversions of each text, best first; fewer than `n_best` where there are no more.

        Args:
            pinyin_list: texts of syllables, with or without tone, and literal characters.
            n_best: candidates wanted of each text.
            beam: width of the search; None stands for `n_best`, but no narrower than NARROWEST.
            context: what stands before each of the texts (`read`).

        Raises:
            UserError: a text is no pinyin or too long.
        """
        numbered = enumerate(pinyin_list, start=1)
        sources = [self.read(text, f"text {number}", context=context) for number, text in numbered]
        return self.search(sources, n_best, beam)

    def read(self, pinyin: str, where: str, lenient: bool = False, context: str = "") -> Source:
        """Check a text, whose place `where` names in messages.

        Args:
            lenient: a syllable that no hanzi of this model has becomes □ in the answer and is no error, so that a
                measurement can count it as wrong.
            context: hanzi and all else that stands before the caret; helps to choose, and is no part of the answer.
                Where it is longer than the model can take beside the text, or was trained with, its beginning is left
                out: all of it by a model that was trained without context.

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
        if len(ids) > self.max_length:
            unit = "characters" if self.vocabulary.pieces is None else "positions"
            raise UserError(f"{where}: {len(ids)} {unit}, but this model takes {self.max_length} at most; split it")
        room = min(self.max_length - len(ids), self._most_context)
        before, begun = encode_context(context, room, self.vocabulary, self._begun_alone)
        return Source(np.array(before + ids, dtype=np.int64), tuple(literals), len(before), begun, self._tolerance)

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
        for batch in self._batches(sources, max(beam, n_best)):
            rows = self._search_batch([sources[i] for i in batch], n_best, beam, scorer)
            for index, found in zip(batch, rows, strict=True):
                results[index] = found
            if advance is not None:
                advance(len(batch))
        return results

    def _batches(self, sources: Sequence[Source], kept: int) -> Iterator[list[int]]:
        """The indices of sources that are searched together: of one table, one length of context, and about one length.

        kept: hypotheses of each.
        """

        def kind_of(index: int) -> tuple[Tolerance, int]:
            return sources[index].tolerance, sources[index].context

        by_length = sorted(range(len(sources)), key=lambda index: (*kind_of(index), len(sources[index].ids)))
        for (tolerance, context), group in groupby(by_length, key=kind_of):
            table = self._table_of(tolerance)
            batch: list[int] = []
            widest = 0
            for index in group:
                width = max(map(table.count, set(sources[index].ids[context:].tolist())))
                choices = (len(batch) + 1) * kept * max(widest, width)
                if batch and (len(batch) == BATCH_SIZE or choices > MOST_CHOICES):
                    yield batch
                    batch, widest = [], 0
                batch.append(index)
                widest = max(widest, width)
            yield batch

    def _table_of(self, tolerance: Tolerance) -> CandidateTable:
        if tolerance not in self._tables:
            self._tables[tolerance] = tolerant_table(self.vocabulary, tolerance)
        return self._tables[tolerance]

    def _scorer_of(self, system: System) -> Scorer:
        if system == "model":
            return self._scorer
        if self.companion is None:
            raise ValueError(f"no companion, and so no search by {system}")
        # moved once, not for every search: it is large
        self.companion = replace(self.companion, ngram=self.companion.ngram.to(self._device))
        ngram = NgramScorer(self.companion.ngram)
        return ngram if system == "n-gram" else FusedScorer(self._scorer, ngram, self.companion.weight)

    def _search_batch(self, sources: Sequence[Source], n_best: int, beam: int, scorer: Scorer) -> list[list[Candidate]]:
        rows = [torch.from_numpy(source.ids) for source in sources]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.vocabulary.pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        prefix = Prefix(sources[0].context, tuple(source.begun for source in sources))
        padded, lengths = padded.to(self._device), lengths.to(self._device)
        table = self._table_of(sources[0].tolerance)
        found = beam_search(scorer, padded, lengths, table, beam, n_best, prefix)
        return [
            [
                Candidate(self._text(ids[: len(source.literals)], source.literals), log_probability)
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
        if self._table_of(self._tolerance).count(token_id) == 0:
            if lenient:
                return self.vocabulary.unknown_id
            reading = token.partition(":")[2]
            remedy = f"leave the tone out: {reading[:-1]}" if reading[-1].isdigit() else "train with text that has one"
            raise UserError(f"{where}: this model knows no hanzi that is read {reading}; {remedy}")
        return token_id
