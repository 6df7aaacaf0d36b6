"""Training the Hugging Face twin the way its users do: bf16 autocast, AdamW, sentences padded in length buckets."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BlenderbotForConditionalGeneration

from hzlm.data.dataset import Dataset, Record
from hzlm.data.sampling import numpy_generator
from hzlm.vocabulary import Vocabulary

IGNORED = -100
"""The label that Hugging Face's loss leaves out."""


@dataclass(frozen=True)
class PaddedBatch:
    """`source`, `inputs`, `labels`, `mask`: int64 [sentences, longest], as the twin takes them."""

    source: Tensor
    inputs: Tensor
    labels: Tensor
    mask: Tensor

    @property
    def real_positions(self) -> int:
        """Positions that hold a character."""
        return int(self.mask.sum())


def pad_in_buckets(dataset: Dataset, samples: Sequence[int], positions: int) -> list[PaddedBatch]:
    """The samples sorted by length, cut into batches of at most `positions` padded positions, and shuffled."""
    batches: list[list[int]] = [[]]
    for sample in sorted(samples, key=lambda sample: int(dataset.lengths[sample])):
        # sorted: the one to be added is the longest
        if batches[-1] and (len(batches[-1]) + 1) * int(dataset.lengths[sample]) > positions:
            batches.append([])
        batches[-1].append(sample)
    order = numpy_generator(0, "buckets").permutation(len(batches))
    return [_pad([dataset.record(sample) for sample in batches[i]], dataset.vocabulary) for i in order]


def _pad(records: Sequence[Record], vocabulary: Vocabulary) -> PaddedBatch:
    shape = (len(records), max(len(record.hanzi) for record in records))
    source, inputs, mask = (np.zeros(shape, np.int64) for _ in range(3))
    labels = np.full(shape, IGNORED, np.int64)
    for row, record in enumerate(records):
        length = len(record.hanzi)
        source[row, :length] = vocabulary.toneless(record.reading)
        inputs[row, 0], inputs[row, 1:length] = vocabulary.bos_id, record.hanzi[:-1]
        labels[row, :length] = record.hanzi
        mask[row, :length] = 1
    return PaddedBatch(*(torch.from_numpy(stream) for stream in (source, inputs, labels, mask)))


class TwinLoop:
    """The twin and its optimizer."""

    def __init__(self, twin: BlenderbotForConditionalGeneration, clipping: float, autocast: bool) -> None:
        """autocast: float32 weights with bf16 products, as `TrainingArguments(bf16=True)`; else bf16 weights alone."""
        self._twin = twin.train() if autocast else twin.train().bfloat16()
        self._clipping = clipping
        self._autocast = autocast
        self._optimizer = torch.optim.AdamW(self._twin.parameters(), lr=1e-4, fused=True)

    def step(self, batch: PaddedBatch) -> float:
        """One optimizer step; returns its seconds."""
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self._autocast):
            output = self._twin(
                input_ids=batch.source, attention_mask=batch.mask, decoder_input_ids=batch.inputs,
                decoder_attention_mask=batch.mask, labels=batch.labels, use_cache=False,
            )  # fmt: skip
        output.loss.backward()
        if self._clipping > 0:
            nn.utils.clip_grad_norm_(self._twin.parameters(), self._clipping)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return time.perf_counter() - start
