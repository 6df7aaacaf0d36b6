"""What the Hugging Face twin trains on: the same sentences, padded."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hzlm.data.dataset import Dataset
from hzlm.tools.bench.buckets import IGNORED, pad_in_buckets


def test_buckets_hold_every_sentence_once_with_little_padding(
    tmp_path: Path, write_dataset: Callable[[Path, Sequence[str]], Path], sentences: list[str]
) -> None:
    dataset = Dataset.open(write_dataset(tmp_path / "data", sentences), "train")
    vocabulary = dataset.vocabulary
    batches = pad_in_buckets(dataset, range(len(dataset)), positions=48)
    found = []
    for batch in batches:
        assert batch.source.numel() <= 48
        for source, inputs, labels, mask in zip(batch.source, batch.inputs, batch.labels, batch.mask, strict=True):
            length = int(mask.sum())
            assert mask[:length].all()
            assert not source[length:].any()
            assert (labels[length:] == IGNORED).all()
            assert inputs[0] == vocabulary.bos_id
            assert inputs[1:length].tolist() == labels[: length - 1].tolist()
            found.append((vocabulary.decode(labels[:length].tolist()), source[:length].tolist()))
    expected = []
    for number, sentence in enumerate(sentences):
        expected.append((sentence, vocabulary.toneless(dataset.record(number).reading).tolist()))
    assert sorted(found) == sorted(expected)
    real = np.mean([batch.real_positions / batch.mask.numel() for batch in batches])
    assert real > 0.9
