"""Packed batches: what lies where, what counts how much, and that nothing depends on what was read before."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from hzlm.config import LossConfig
from hzlm.data.batches import BatchReader, MicroBatch, collate, count, normalise
from hzlm.data.blend import Blend
from hzlm.data.dataset import Dataset
from hzlm.data.views import ViewMixture
from hzlm.data_config import DataConfig
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.losses import TrainingLoss
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]


@pytest.fixture
def dataset(tmp_path: Path, write_dataset: Write, sentences: list[str]) -> Dataset:
    return Dataset.open(write_dataset(tmp_path / "data", sentences), "train")


def make_reader(dataset: Dataset, view: str = "pinyin", row_length: int = 20) -> BatchReader:
    config = make_config(dataset.folder, row_length, view)
    return BatchReader(Blend.open(config, "train"), config, seed=3)


def make_config(path: Path | dict[Path, float], row_length: int = 20, view: str = "pinyin") -> DataConfig:
    fields = {"path": path, "row_length": row_length, "views": {view: 1.0}}
    return DataConfig.model_validate(fields, strict=False)


def texts_of(batch: MicroBatch, vocabulary: Vocabulary) -> list[str]:
    found = []
    for row in range(batch.segments.shape[0]):
        for segment in range(1, int(batch.segments[row].max()) + 1):
            places = batch.segments[row] == segment
            found.append(vocabulary.decode(batch.targets[row][places].tolist()))
            assert batch.positions[row][places].tolist() == list(range(int(places.sum())))
            inputs = batch.tokens[1, row][places].tolist()
            assert inputs == [vocabulary.bos_id, *batch.targets[row][places].tolist()[:-1]]
    return found


def test_an_epoch_holds_every_sentence_once(dataset: Dataset, sentences: list[str]) -> None:
    batches = make_reader(dataset).one_pass(rows=4, limit=1000)
    assert sorted(text for batch in batches for text in texts_of(batch, dataset.vocabulary)) == sorted(sentences)
    assert all(batch.tokens.shape[2] == 20 for batch in batches)


@pytest.mark.parametrize("view", ["pinyin", "masked", "toned"])
def test_weights_count_what_is_asked_for_and_sum_to_the_number_of_micro_batches(dataset: Dataset, view: str) -> None:
    step = next(make_reader(dataset, view).steps(0, rows=2, micro_batches=3))
    totals = torch.stack([batch.weights.sum(dim=(1, 2)) for batch in step.micro_batches]).sum(dim=0)
    torch.testing.assert_close(totals, torch.full((2,), 3.0))
    encoder = torch.cat([batch.weights[0] for batch in step.micro_batches])
    decoder = torch.cat([batch.weights[1] for batch in step.micro_batches])
    source = torch.cat([batch.tokens[0] for batch in step.micro_batches])
    targets = torch.cat([batch.targets for batch in step.micro_batches])
    real = torch.cat([batch.segments for batch in step.micro_batches]) > 0
    assert torch.equal(decoder > 0, real)
    assert torch.equal(encoder > 0, real & (source != targets))
    assert len(decoder[decoder > 0].unique()) == 1, "every counted position of a step weighs the same"


def test_packed_rows_have_the_loss_of_one_sentence_a_row(
    dataset: Dataset, model: EncoderDecoder, sentences: list[str]
) -> None:
    """The same sentences, 20 positions a row and one sentence a row, through the whole model and loss.

    Micro-batches that are empty change nothing.
    """
    config = LossConfig(encoder_weight=0.5, label_smoothing=0.1)
    views = ViewMixture(make_config(dataset.folder), dataset.vocabulary)
    alone = []
    for number in range(len(dataset)):
        record = dataset.record(number)
        source = torch.from_numpy(views.source(record, np.random.default_rng(0))).long()
        target = torch.from_numpy(record.hanzi).long()
        tokens = torch.zeros(2, 1, 20, dtype=torch.long)
        tokens[0, 0, : len(source)] = source
        tokens[1, 0, : len(source)] = torch.cat([torch.tensor([dataset.vocabulary.bos_id]), target[:-1]])
        places = torch.arange(20)[None] < len(source)
        targets = torch.zeros(1, 20, dtype=torch.long)
        targets[0, : len(source)] = target
        weights = torch.stack([places & (tokens[0] != targets), places]).float()
        alone.append(MicroBatch(tokens, torch.arange(20)[None], places.int(), targets, weights, places.long()))
    packed = make_reader(dataset).one_pass(rows=7, limit=1000)
    assert sum(len(batch.targets) for batch in packed) < len(sentences) / 2
    empty = make_reader(dataset).one_pass(rows=7, limit=1000, at_least=len(packed) + 2)
    assert [batch.real_positions > 0 for batch in empty] == [True] * len(packed) + [False] * 2
    unpacked = [collate(alone)]
    losses = []
    for batches in (packed, empty, normalise(unpacked, count(unpacked))):
        loss = TrainingLoss(config, dataset.vocabulary.size, dataset.vocabulary.target_start)
        model.zero_grad()
        total = sum(loss(model(batch.inputs), batch.labels) for batch in batches) / len(batches)
        total.backward()
        losses.append((total.item(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}))
    *found, (theirs, expected) = losses
    for ours, gradients in found:
        assert ours == pytest.approx(theirs, rel=1e-5)
        for name, gradient in gradients.items():
            assert (gradient - expected[name]).norm() < 1e-5 * max(expected[name].norm().item(), 0.1), name


def test_unknown_characters_are_read_but_never_learned(tmp_path: Path, write_dataset: Write) -> None:
    dataset = Dataset.open(write_dataset(tmp_path / "data", ["我爱龘"]), "train")
    (batch,) = make_reader(dataset).one_pass(rows=1, limit=1)
    assert (batch.weights[:, 0, :3] > 0).tolist() == [[True, True, False]] * 2


def test_going_on_from_a_cursor_gives_the_same_batches(dataset: Dataset) -> None:
    reader = make_reader(dataset, "masked")
    straight = list(islice(reader.steps(0, rows=3, micro_batches=2), 12))
    assert straight[-1].cursor > len(dataset), "the next epoch has begun"
    for number in (0, 4, 7):
        resumed = next(make_reader(dataset, "masked").steps(straight[number].cursor, rows=3, micro_batches=2))
        for ours, theirs in zip(resumed.micro_batches, straight[number + 1].micro_batches, strict=True):
            assert torch.equal(ours.tokens, theirs.tokens)
            assert torch.equal(ours.weights, theirs.weights)


def test_a_sentence_longer_than_a_row_is_named(dataset: Dataset) -> None:
    with pytest.raises(UserError, match=r"data\.row_length is 8, .* holds a sentence of 16 positions: raise it"):
        make_reader(dataset, row_length=8)


def test_a_blend_is_read_from_all_its_datasets(tmp_path: Path, write_dataset: Write, sentences: list[str]) -> None:
    folders = {
        write_dataset(tmp_path / "one", sentences[:40]): 1.0,
        write_dataset(tmp_path / "two", sentences[40:]): 1.0,
    }
    config = make_config(folders)
    blend = Blend.open(config, "train")
    reader = BatchReader(blend, config, seed=3)
    batches = reader.one_pass(rows=1, limit=1000)
    assert sorted(text for batch in batches for text in texts_of(batch, blend.vocabulary)) == sorted(sentences)
    real = sum(batch.real_positions for batch in batches) / sum(batch.segments.numel() for batch in batches)
    assert reader.efficiency == pytest.approx(real)


def test_every_epoch_sees_other_masks(dataset: Dataset) -> None:
    """The view of a sample depends on its place in the order, so not on the epoch before."""
    seen: list[set[tuple[tuple[int, ...], ...]]] = []
    steps = make_reader(dataset, "masked").steps(0, rows=1, micro_batches=1)
    start = 0
    while start < 2 * len(dataset):
        step = next(steps)
        (batch,) = step.micro_batches
        if start % len(dataset) == 0:
            seen.append(set())
        for segment in range(1, int(batch.segments.max()) + 1):
            places = batch.segments[0] == segment
            if int(places.sum()) > 3:
                seen[-1].add((tuple(batch.targets[0][places].tolist()), tuple(batch.tokens[0, 0][places].tolist())))
        start = step.cursor
    first, second = seen
    assert {target for target, _ in first} == {target for target, _ in second}
    assert len(first & second) < len(first) / 2
