"""Preceding sentences as context: which a sample gets, where they lie in a row, and that they count in no loss."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.data.batches import BatchReader
from hzlm.data.blend import Blend
from hzlm.data.context import count_preceding, positions_before
from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Dataset, Record, SplitWriter
from hzlm.data.marks import MARK_FOLLOWS
from hzlm.data_config import DataConfig
from hzlm.vocabulary import Vocabulary

Make = Callable[[str, Vocabulary], Record]
DOCUMENTS = st.lists(
    st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=8), min_size=1, max_size=5
)
"""Documents of sentences: characters of each, and whether it follows the one before it."""


def write(folder: Path, documents: Sequence[Sequence[tuple[int, bool]]], vocabulary: Vocabulary) -> Path:
    folder.mkdir(parents=True)
    vocabulary.save(folder / VOCABULARY_FILE)
    number = 0
    for split in SPLITS:
        with SplitWriter(folder, split, vocabulary) as writer:
            for sentences in documents:
                for length, follows in sentences:
                    ids = np.full(length, vocabulary.target_start + number % vocabulary.target_size, np.int32)
                    marks = np.zeros(length, np.uint8)
                    marks[0] = MARK_FOLLOWS if follows else 0
                    writer.add(Record(ids, ids, marks))
                    number += 1
                writer.end_document()
            writer.finish()
    return folder


def preceding(documents: Sequence[Sequence[tuple[int, bool]]], record: int, room: int) -> int:
    """By the definition, one sentence at a time."""
    for sentences in documents:
        if record < len(sentences):
            break
        record -= len(sentences)
    count = 0
    while record > 0 and sentences[record][1] and sentences[record - 1][0] <= room:
        room -= sentences[record - 1][0]
        record, count = record - 1, count + 1
    return count


@settings(max_examples=40)
@given(DOCUMENTS, st.data())
def test_as_many_whole_sentences_as_fit(
    tmp_path_factory: pytest.TempPathFactory,
    vocabulary: Vocabulary,
    documents: list[list[tuple[int, bool]]],
    data: st.DataObject,
) -> None:
    folder = write(tmp_path_factory.mktemp("context") / "data", documents, vocabulary)
    dataset = Dataset.open(folder, "train")
    records = data.draw(st.lists(st.integers(0, len(dataset) - 1), min_size=1, max_size=20))
    rooms = data.draw(st.lists(st.integers(-2, 20), min_size=len(records), max_size=len(records)))
    counts = count_preceding(dataset, np.array(records), np.array(rooms))
    assert counts.tolist() == [preceding(documents, *pair) for pair in zip(records, rooms, strict=True)]
    before = positions_before(dataset, np.array(records), counts).tolist()
    lengths = [length for sentences in documents for length, _ in sentences]
    assert before == [sum(lengths[r - c : r]) for r, c in zip(records, counts.tolist(), strict=True)]


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_context_stands_before_a_sample_and_counts_nothing(tmp_path: Path, vocabulary: Vocabulary, rate: float) -> None:
    documents = [[(3, False), (4, True), (5, True), (2, True)]] * 40
    config = DataConfig.model_validate(
        {"path": write(tmp_path / "data", documents, vocabulary), "row_length": 20, "views": {"masked": 1.0},
         "mask_rate": 0.99, "context": 9, "context_rate": rate},
        strict=False,
    )  # fmt: skip
    reader = BatchReader(Blend.open(config, "train"), config, seed=1)
    batches = reader.one_pass(rows=2, limit=1000)
    with_context = total = 0
    for batch in batches:
        source, inputs = batch.tokens
        context = (batch.segments > 0) & (batch.sentences == 0)
        assert torch.equal(source[context], batch.targets[context]), "the hanzi themselves"
        assert not batch.weights[:, context].any()
        assert batch.weights[1][(batch.segments > 0) & ~context].all()
        for row in range(len(batch.segments)):
            for segment in range(1, int(batch.segments[row].max()) + 1):
                places = batch.segments[row] == segment
                of_context, length = int((context[row] & places).sum()), int(places.sum())
                assert of_context <= 9
                assert context[row][places].tolist() == [True] * of_context + [False] * (length - of_context)
                assert batch.positions[row][places].tolist() == list(range(length))
                assert inputs[row][places].tolist() == [vocabulary.bos_id, *batch.targets[row][places].tolist()[:-1]]
                with_context += of_context > 0
                total += 1
    assert total == 160, "every sentence is a sample, with or without others before it"
    # of the four sentences of a document the first has nothing before it
    assert with_context / total == pytest.approx(0.75 * rate, abs=0 if rate == 1.0 else 0.15)


def test_a_sentence_may_have_begun(tmp_path: Path, vocabulary: Vocabulary) -> None:
    config = DataConfig.model_validate(
        {"path": write(tmp_path / "data", [[(8, False)]] * 300, vocabulary), "row_length": 8,
         "views": {"masked": 1.0}, "mask_rate": 0.99, "begun_rate": 0.5},
        strict=False,
    )  # fmt: skip
    (batch,) = BatchReader(Blend.open(config, "train"), config, seed=1).one_pass(rows=300, limit=300)
    source, _ = batch.tokens
    begun = batch.sentences == 0
    lengths = begun.sum(dim=1)
    assert torch.equal(begun, torch.arange(8) < lengths[:, None])
    assert torch.equal(source[begun], batch.targets[begun])
    assert not batch.weights[:, begun].any()
    assert batch.weights[1][~begun].all()
    assert sorted(set(lengths.tolist())) == list(range(8))
    # half of them have begun, one in eight of these at the very start
    assert (lengths > 0).float().mean().item() == pytest.approx(0.5 * 7 / 8, abs=0.1)


def test_pairs_of_rows_hold_the_same_sentences(tmp_path: Path, vocabulary: Vocabulary) -> None:
    documents = [[(3, False), (4, True), (5, True), (2, True)]] * 10
    config = DataConfig.model_validate(
        {"path": write(tmp_path / "data", documents, vocabulary), "row_length": 20, "views": {"masked": 1.0}},
        strict=False,
    )
    blend = Blend.open(config, "train")
    plain, views, dropout = (
        next(BatchReader(blend, config, seed=1, pairing=pairing).steps(0, rows, 2)).micro_batches
        for pairing, rows in (("none", 2), ("views", 4), ("dropout", 4))
    )
    for one, two, same in zip(plain, views, dropout, strict=True):
        for name in ("targets", "segments", "positions", "sentences"):
            for paired in (two, same):
                assert torch.equal(getattr(paired, name)[::2], getattr(one, name))
                assert torch.equal(getattr(paired, name)[1::2], getattr(one, name))
        assert torch.equal(same.tokens[:, ::2], same.tokens[:, 1::2])
        assert torch.equal(two.tokens[:, ::2], one.tokens)
        assert not torch.equal(two.tokens[0, ::2], two.tokens[0, 1::2])
        assert torch.equal(two.tokens[1, ::2], two.tokens[1, 1::2])
