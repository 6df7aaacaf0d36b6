"""Packed batches: rows of samples turned into the tensors that a model reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hzlm.config import DataConfig
from hzlm.data.dataset import Dataset
from hzlm.data.packing import segment_places
from hzlm.data.sampling import Cursor, RowOrder, numpy_generator
from hzlm.data.views import ViewMixture
from hzlm.errors import UserError
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
    cursor: Cursor


class BatchReader:
    """Reads a dataset as packed micro-batches, epoch after epoch."""

    def __init__(self, dataset: Dataset, config: DataConfig, seed: int):
        """UserError where the dataset is empty or holds a sentence that is longer than a row."""
        if len(dataset) == 0:
            raise UserError(f"{dataset.folder}: its {dataset.split} split is empty: prepare more text")
        if dataset.lengths.max() > config.row_length:
            raise UserError(
                f"data.row_length is {config.row_length}, but {dataset.folder} holds a sentence of "
                f"{dataset.lengths.max()} characters: raise it, or prepare the text with a smaller --max-length"
            )
        self._dataset = dataset
        self._row_length = config.row_length
        self._views = ViewMixture(config, dataset.vocabulary)
        self._seed = seed
        self._order = RowOrder(dataset.lengths, config.row_length, seed)

    def steps(self, cursor: Cursor, rows: int, micro_batches: int) -> Iterator[StepBatch]:
        """Steps of `micro_batches` x `rows` rows from `cursor` on, without end.

        On each side the weights of a step sum to its number of micro-batches: the mean of the micro-batch losses
        is then the mean over all positions that count, however they are spread.
        """
        stream = self._order.rows(cursor)
        while True:
            batches = []
            for _ in range(micro_batches):
                group = []
                for _ in range(rows):
                    epoch = cursor.epoch
                    samples, cursor = next(stream)
                    group.append(self._row(samples, epoch))
                batches.append(collate(group))
            yield StepBatch(normalise(batches), cursor)

    def one_pass(self, rows: int, limit: int) -> list[MicroBatch]:
        """The first epoch once, at most `limit` rows of it, as one step: a fixed set to evaluate on."""
        group = []
        for samples, cursor in self._order.rows(Cursor()):
            group.append(self._row(samples, epoch=0))
            if cursor.epoch > 0 or len(group) == limit:
                break
        return normalise([collate(group[start : start + rows]) for start in range(0, len(group), rows)])

    def _row(self, samples: np.ndarray, epoch: int) -> MicroBatch:
        vocabulary = self._dataset.vocabulary
        sources, targets, inputs = [], [], []
        for sample in samples.tolist():
            record = self._dataset.record(sample)
            sources.append(self._views.source(record, numpy_generator(self._seed, "view", epoch, sample)))
            targets.append(record.hanzi)
            inputs.append(np.concatenate([[vocabulary.bos_id], record.hanzi[:-1]]))
        segments, positions = segment_places([len(target) for target in targets], self._row_length)
        return _to_tensors(sources, inputs, targets, segments, positions, vocabulary)


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
