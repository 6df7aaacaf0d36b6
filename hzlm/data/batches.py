"""Packed batches: rows of samples turned into the tensors that a model reads."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hzlm.data.blend import Blend
from hzlm.data.dataset import Dataset
from hzlm.data.packing import segment_places
from hzlm.data.sampling import RowOrder, Samples, numpy_generator
from hzlm.data.views import ViewMixture
from hzlm.data_config import DataConfig
from hzlm.parallel.collectives import total
from hzlm.parallel.mesh import ALONE, Mesh
from hzlm.vocabulary import Vocabulary

NOTHING = np.empty(0, np.int64)
NO_SAMPLES = Samples(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)

Pairing = Literal["none", "views", "dropout"]
"""Whether two rows that follow one another hold the same samples: no, each with views of its own, or with one view."""


@dataclass(frozen=True)
class MicroBatch:
    """R rows of L positions.

    tokens int64 [2, R, L]: source, target input ([BOS], then the target shifted by one). positions int64 [R, L],
    from the start of each segment. segments int32 [R, L], 0 where nothing lies. targets int64 [R, L].
    weights float32 [2, R, L]: how much a position counts in the encoder's and in the decoder's loss.
    sentences int64 [R, L]: a number for the text of the sentence that the position belongs to; 0 on context and where
    nothing lies.
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    targets: Tensor
    weights: Tensor
    sentences: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the first layer takes."""
        return self.tokens, self.positions, self.segments

    @property
    def labels(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the loss takes."""
        return self.targets, self.weights, self.segments, self.sentences

    @property
    def real_positions(self) -> int:
        """Positions that hold a character."""
        return int((self.segments > 0).sum())

    def cut(self, rows: int) -> list["MicroBatch"]:
        """Micro-batches of `rows` rows each, the inverse of `collate`; the last may have fewer."""
        cut = (self.tokens.split(rows, 1), self.positions.split(rows), self.segments.split(rows))
        counted = (self.targets.split(rows), self.weights.split(rows, 1), self.sentences.split(rows))
        return [MicroBatch(*parts) for parts in zip(*cut, *counted, strict=True)]


@dataclass(frozen=True)
class Counts:
    """What micro-batches hold, those of all data-parallel ranks together."""

    places: int
    """Positions, empty ones too: rows x row length."""
    positions: int
    """Positions that hold a character."""
    pairs: int
    """Pairs of positions of one sentence: the sum of n^2 over sentences of n characters."""
    encoder_targets: int
    decoder_targets: int
    """Positions that count in the loss of a side."""


@dataclass(frozen=True)
class StepBatch:
    """One optimizer step: the micro-batches of this data-parallel rank; the cursor to go on from and the counts, both
    of the whole step and the same on all ranks."""

    micro_batches: list[MicroBatch]
    cursor: int
    counts: Counts


class BatchReader:
    """Reads a blend as packed micro-batches, epoch after epoch.

    The order knows nothing of ranks: of each rows x data size rows that follow one another, the data-parallel ranks
    take `rows` each. Only a rank's own are read and get their views. With pairing each row is given twice.
    """

    def __init__(
        self,
        blend: Blend,
        config: DataConfig,
        seed: int,
        mesh: Mesh = ALONE,
        pairing: Pairing = "none",
        views: ViewMixture | None = None,
    ) -> None:
        """Reads a blend.

        Args:
            blend: of one dataset or more.
            config: row length, views and context.
            seed: of the order, the views and the context.
            mesh: of this rank.
            pairing: of the rows.
            views: of the config, where they were made already: their tables take seconds.

        Raises:
            UserError: the blend holds a sentence that is longer than a row.
        """
        blend.check_lengths(config.row_length, "data.row_length")
        self._datasets = blend.datasets
        self._vocabulary = blend.vocabulary
        self._row_length = config.row_length
        self._views = views or ViewMixture(config, blend.vocabulary)
        self._seed = seed
        self._mesh = mesh
        self._begun_rate = config.begun_rate
        self._pairing = pairing
        self._copies = 1 if pairing == "none" else 2
        self._order = RowOrder(blend, config.row_length, seed, config.context, config.context_rate)

    @property
    def efficiency(self) -> float:
        """Share of the positions that hold a character, over the rows of the first window."""
        return self._order.efficiency()

    def steps(self, cursor: int, rows: int, micro_batches: int) -> Iterator[StepBatch]:
        """Steps from `cursor` on (0 is the beginning), without end; each is a collective call of the data ranks.

        On each side the weights of a step, those of all ranks together, sum to its number of micro-batches times that
        of ranks: the mean of all their losses is then the mean over all positions that count, however they are spread.

        Args:
            cursor: of `StepBatch`, from a reader on any mesh.
            rows: of a micro-batch; with pairing an even number.
            micro_batches: of a step, on each rank.
        """
        stream = self._order.rows(cursor)
        while True:
            batches = []
            for _ in range(micro_batches):
                taken = list(islice(stream, rows * self._mesh.data.size // self._copies))
                batches.append(self._own([samples for samples, _ in taken], rows))
                _, cursor = taken[-1]
            counts = count(batches, self._mesh)
            yield StepBatch(normalise(batches, counts, self._mesh), cursor, counts)

    def one_pass(self, rows: int, limit: int, at_least: int = 1) -> list[MicroBatch]:
        """Every sample once, or with pairing twice, at most `limit` rows on all ranks together: fixed, to evaluate on.

        Returns:
            On each rank as many micro-batches of `rows` rows, no fewer than `at_least`, weighted as those of one step.
            Rows that are missing are empty: they hold padding, and nothing in them counts.
        """
        order = list(islice(self._order.first_epoch(), max(1, limit // self._copies)))
        together = rows * self._mesh.data.size // self._copies
        number = max(at_least, -(-len(order) // together))
        order += [NO_SAMPLES] * (number * together - len(order))
        batches = [self._own(order[start : start + together], rows) for start in range(0, len(order), together)]
        return normalise(batches, count(batches, self._mesh), self._mesh)

    def _own(self, together: Sequence[Samples], rows: int) -> MicroBatch:
        """This rank's rows of those that the data ranks read together."""
        distinct = rows // self._copies
        start = self._mesh.data.index * distinct
        return collate(
            [self._row(samples, copy) for samples in together[start : start + distinct] for copy in range(self._copies)]
        )

    def _row(self, samples: Samples, copy: int) -> MicroBatch:
        """copy: 1 for the second of two rows with the same samples."""
        key: tuple[int | str, ...] = (self._seed, "second view" if copy and self._pairing == "views" else "view")
        parts = [
            self._part(number, self._datasets[dataset], context, numpy_generator(*key, place))
            for place, dataset, number, context in zip(
                samples.places.tolist(),
                samples.datasets.tolist(),
                samples.records.tolist(),
                samples.contexts.tolist(),
                strict=True,
            )
        ]
        return _to_tensors(parts, self._row_length, self._vocabulary)

    def _part(self, number: int, dataset: Dataset, context: int, generator: np.random.Generator) -> "_Part":
        """A sentence behind `context` others of its text."""
        record = dataset.record(number)
        source = record.reading if dataset.is_pairs else self._views.source(record, generator)
        begun = 0
        if self._begun_rate > 0.0 and generator.random() < self._begun_rate:
            begun = int(generator.integers(len(source)))
            source = np.concatenate([record.hanzi[:begun], source[begun:]])
        before = [dataset.record(earlier).hanzi for earlier in range(number - context, number)]
        return _Part(
            np.concatenate([*before, source]),
            np.concatenate([*before, record.hanzi]),
            sum(map(len, before)) + begun,
            _number_text(record.hanzi),
        )


@dataclass(frozen=True)
class _Part:
    """What one sample puts into a row: int32 [n] each, the first `context` of them before what is asked for."""

    source: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    context: int
    sentence: int


def _number_text(ids: npt.NDArray[np.int32]) -> int:
    """A number that equal texts share, odd, so that it is never 0."""
    return int.from_bytes(hashlib.blake2b(ids.tobytes(), digest_size=8).digest(), "little", signed=True) | 1


def _to_tensors(parts: Sequence[_Part], row_length: int, vocabulary: Vocabulary) -> MicroBatch:
    """One row. What is unknown is never learned; the encoder learns where the source does not tell the answer."""
    segments, positions = segment_places([len(part.target) for part in parts], row_length)
    tokens = np.full((3, 1, row_length), vocabulary.pad_id, dtype=np.int64)
    sentences = np.zeros((1, row_length), dtype=np.int64)
    start = 0
    for part in parts:
        end = start + len(part.target)
        source, inputs, target = tokens[:, 0, start:end]
        source[:], target[:] = part.source, part.target
        inputs[0], inputs[1:] = vocabulary.bos_id, part.target[:-1]
        sentences[0, start + part.context : end] = part.sentence
        start = end
    source, _, target = tokens
    counts = (sentences != 0) & (target >= vocabulary.target_start)
    weights = np.stack([counts & (source != target), counts]).astype(np.float32)
    return MicroBatch(
        torch.from_numpy(tokens[:2]),
        torch.from_numpy(positions[None]),
        torch.from_numpy(segments[None]),
        torch.from_numpy(target),
        torch.from_numpy(weights),
        torch.from_numpy(sentences),
    )


def collate(rows: Sequence[MicroBatch]) -> MicroBatch:
    """Micro-batches of some rows each -> one of all their rows."""
    return MicroBatch(
        torch.cat([row.tokens for row in rows], dim=1),
        torch.cat([row.positions for row in rows]),
        torch.cat([row.segments for row in rows]),
        torch.cat([row.targets for row in rows]),
        torch.cat([row.weights for row in rows], dim=1),
        torch.cat([row.sentences for row in rows]),
    )


def count(batches: Sequence[MicroBatch], mesh: Mesh = ALONE) -> Counts:
    """What the micro-batches of all data ranks hold, their weights still 0 or 1; a collective call of those ranks."""
    real = [batch.segments > 0 for batch in batches]
    targets = torch.stack([batch.weights.sum(dim=(1, 2), dtype=torch.float64) for batch in batches]).sum(dim=0)
    own = [
        sum(mask.numel() for mask in real),
        sum(int(mask.sum()) for mask in real),
        # place p of a sentence adds 2p + 1: together n^2
        sum(int(((2 * batch.positions + 1) * mask).sum()) for batch, mask in zip(batches, real, strict=True)),
        *targets.tolist(),
    ]
    return Counts(*map(int, total(own, mesh.data, mesh.device)))


def normalise(batches: Sequence[MicroBatch], counts: Counts, mesh: Mesh = ALONE) -> list[MicroBatch]:
    """The same batches with weights that sum, on each side and over all data ranks, to the number of micro-batches
    times that of ranks (0 where nothing counts)."""
    totals = torch.tensor([counts.encoder_targets, counts.decoder_targets], dtype=torch.float32)
    factors = torch.where(totals > 0, len(batches) * mesh.data.size / totals, 0.0)[:, None, None]
    return [replace(batch, weights=batch.weights * factors) for batch in batches]
