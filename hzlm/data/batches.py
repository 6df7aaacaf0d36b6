"""Packed batches: rows of samples turned into the tensors that a model reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hzlm.config import DataConfig
from hzlm.data.blend import Blend
from hzlm.data.packing import segment_places
from hzlm.data.sampling import RowOrder, Samples, numpy_generator
from hzlm.data.views import ViewMixture
from hzlm.vocabulary import Vocabulary


@dataclass(frozen=True)
class MicroBatch:
    """R rows of L positions.

    tokens int64 [2, R, L]: source, target input ([BOS], then the target shifted by one). positions int64 [R, L],
    from the start of each segment. segments int32 [R, L], 0 where nothing lies. targets int64 [R, L].
    weights float32 [2, R, L]: how much a position counts in the encoder's and in the decoder's loss.
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    targets: Tensor
    weights: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the first layer takes."""
        return self.tokens, self.positions, self.segments

    @property
    def labels(self) -> tuple[Tensor, Tensor]:
        """What the loss takes."""
        return self.targets, self.weights

    @property
    def real_positions(self) -> int:
        """Positions that hold a character."""
        return int((self.segments > 0).sum())

    def cut(self, rows: int) -> list["MicroBatch"]:
        """Micro-batches of `rows` rows each, the inverse of `collate`; the last may have fewer."""
        cut = (self.tokens.split(rows, 1), self.positions.split(rows), self.segments.split(rows))
        counted = (self.targets.split(rows), self.weights.split(rows, 1))
        return [MicroBatch(*parts) for parts in zip(*cut, *counted, strict=True)]


@dataclass(frozen=True)
class StepBatch:
    """The micro-batches of one optimizer step, and where to go on after them."""

    micro_batches: list[MicroBatch]
    cursor: int


class BatchReader:
    """Reads a blend as packed micro-batches, epoch after epoch."""

    def __init__(self, blend: Blend, config: DataConfig, seed: int):
        """blend: of one dataset or more. UserError where it holds a sentence that is longer than a row."""
        blend.check_lengths(config.row_length, "data.row_length")
        self._datasets = blend.datasets
        self._vocabulary = blend.vocabulary
        self._row_length = config.row_length
        self._views = ViewMixture(config, blend.vocabulary)
        self._seed = seed
        self._order = RowOrder(blend, config.row_length, seed)

    @property
    def efficiency(self) -> float:
        """Share of the positions that hold a character, over the rows of the first window."""
        return self._order.efficiency()

    def steps(self, cursor: int, rows: int, micro_batches: int) -> Iterator[StepBatch]:
        """Steps of `micro_batches` x `rows` rows from `cursor` on (0 is the beginning), without end.

        On each side the weights of a step sum to its number of micro-batches: the mean of the micro-batch losses
        is then the mean over all positions that count, however they are spread.
        """
        stream = self._order.rows(cursor)
        while True:
            batches = []
            for _ in range(micro_batches):
                group = []
                for _ in range(rows):
                    samples, cursor = next(stream)
                    group.append(self._row(samples))
                batches.append(collate(group))
            yield StepBatch(normalise(batches), cursor)

    def one_pass(self, rows: int, limit: int) -> list[MicroBatch]:
        """Every sample once, at most `limit` rows of them, as one step: a fixed set to evaluate on."""
        group = [self._row(samples) for samples in islice(self._order.first_epoch(), limit)]
        return normalise([collate(group[start : start + rows]) for start in range(0, len(group), rows)])

    def _row(self, samples: Samples) -> MicroBatch:
        sources, targets, inputs = [], [], []
        for place, dataset, number in zip(
            samples.places.tolist(), samples.datasets.tolist(), samples.records.tolist(), strict=True
        ):
            record = self._datasets[dataset].record(number)
            sources.append(self._views.source(record, numpy_generator(self._seed, "view", place)))
            targets.append(record.hanzi)
            inputs.append(np.concatenate([[self._vocabulary.bos_id], record.hanzi[:-1]]))
        segments, positions = segment_places([len(target) for target in targets], self._row_length)
        return _to_tensors(sources, inputs, targets, segments, positions, self._vocabulary)


def _to_tensors(
    sources: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    segments: np.ndarray,
    positions: np.ndarray,
    vocabulary: Vocabulary,
) -> MicroBatch:
    """One row. What is unknown is never learned; the encoder learns where the source does not tell the answer."""
    tokens = np.full((3, 1, len(segments)), vocabulary.pad_id, dtype=np.int64)
    for stream, parts in zip(tokens, (sources, inputs, targets), strict=True):
        joined = np.concatenate(parts)
        stream[0, : len(joined)] = joined
    source, _, target = tokens
    counts = (segments > 0) & (target >= vocabulary.target_start)
    weights = np.stack([counts & (source != target), counts]).astype(np.float32)
    return MicroBatch(
        torch.from_numpy(tokens[:2]),
        torch.from_numpy(positions[None]),
        torch.from_numpy(segments[None]),
        torch.from_numpy(target),
        torch.from_numpy(weights),
    )


def collate(rows: Sequence[MicroBatch]) -> MicroBatch:
    """Micro-batches of some rows each -> one of all their rows."""
    return MicroBatch(
        torch.cat([row.tokens for row in rows], dim=1),
        torch.cat([row.positions for row in rows]),
        torch.cat([row.segments for row in rows]),
        torch.cat([row.targets for row in rows]),
        torch.cat([row.weights for row in rows], dim=1),
    )


def normalise(batches: Sequence[MicroBatch]) -> list[MicroBatch]:
    """The same batches with weights that sum to their number on each side (0 where nothing counts)."""
    totals = torch.stack([batch.weights.sum(dim=(1, 2)) for batch in batches]).sum(dim=0)
    factors = torch.where(totals > 0, len(batches) / totals, 0.0)[:, None, None]
    return [
        MicroBatch(batch.tokens, batch.positions, batch.segments, batch.targets, batch.weights * factors)
        for batch in batches
    ]
