"""The batches of data-parallel ranks: together they are those of one process, and each reads its own only."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import open_reader, read, read_as_rank
from torch import distributed

from hzlm.data.batches import BatchReader, MicroBatch, collate
from hzlm.data.dataset import Dataset
from hzlm.launch.processes import run_ranks
from hzlm.parallel.mesh import Axis, Mesh

Write = Callable[[Path, Sequence[str]], Path]
T = TypeVar("T")
SMALL = st.integers(1, 3)
RANKS = st.integers(1, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), [*sentences, "我们" * 3])


def by_rank(folder: Path, ranks: int, task: Callable[[BatchReader], T]) -> list[T]:
    """What each of some data-parallel ranks finds. They are threads that talk through gloo as processes would."""
    store = distributed.HashStore()

    def run(rank: int) -> T:
        group = distributed.ProcessGroupGloo(store, rank, ranks, timedelta(seconds=30))
        return task(open_reader(folder, Mesh(data=Axis(ranks, rank, group))))

    with ThreadPoolExecutor(ranks) as threads:
        return list(threads.map(run, range(ranks)))


def assert_same(ours: MicroBatch, theirs: MicroBatch, factor: float) -> None:
    """Equal in all but the weights, which are `factor` times those of the other."""
    for name in ("tokens", "positions", "segments", "targets"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    torch.testing.assert_close(ours.weights, factor * theirs.weights)


@settings(max_examples=15)
@given(ranks=RANKS, rows=SMALL, micro_batches=SMALL, cursor=st.integers(0, 200))
def test_the_ranks_together_read_what_one_process_reads(
    folder: Path, ranks: int, rows: int, micro_batches: int, cursor: int
) -> None:
    """One process with as many rows a micro-batch as all ranks together; its weights sum to 1 a micro-batch."""
    found = by_rank(folder, ranks, lambda reader: list(islice(reader.steps(cursor, rows, micro_batches), 3)))
    expected = islice(open_reader(folder).steps(cursor, rows * ranks, micro_batches), 3)
    for whole, *parts in zip(expected, *found, strict=True):
        assert {part.cursor for part in parts} == {whole.cursor}
        assert {part.counts for part in parts} == {whole.counts}
        for theirs, *ours in zip(whole.micro_batches, *(part.micro_batches for part in parts), strict=True):
            assert all(len(batch.segments) == rows for batch in ours)
            assert_same(collate(ours), theirs, ranks)


@pytest.mark.parametrize("ranks", [1, 3])
def test_counts_are_those_of_the_sentences_of_all_ranks(folder: Path, ranks: int) -> None:
    steps = by_rank(folder, ranks, lambda reader: next(reader.steps(0, 4, 10)))
    lengths, targets = [], [0, 0]
    for batch in (batch for step in steps for batch in step.micro_batches):
        for row in batch.segments.tolist():
            lengths += [row.count(number) for number in set(row) - {0}]
        targets = [before + int((side > 0).sum()) for before, side in zip(targets, batch.weights, strict=True)]
    for step in steps:
        assert asdict(step.counts) == {
            "places": ranks * 10 * 4 * 20,
            "positions": sum(lengths),
            "pairs": sum(length**2 for length in lengths),
            "encoder_targets": targets[0],
            "decoder_targets": targets[1],
        }
    assert 0 < targets[0] < targets[1] < sum(lengths) < ranks * 10 * 4 * 20


@settings(max_examples=15)
@given(ranks=RANKS, rows=st.integers(1, 5), limit=st.integers(1, 40), at_least=st.integers(1, 6))
def test_every_rank_evaluates_as_many_batches_of_one_shape(
    folder: Path, ranks: int, rows: int, limit: int, at_least: int
) -> None:
    expected = collate(open_reader(folder).one_pass(1, limit))
    real = len(expected.segments)
    assert real <= limit
    number = max(at_least, -(-real // (rows * ranks)))
    found = by_rank(folder, ranks, lambda reader: reader.one_pass(rows, limit, at_least))
    assert [[batch.tokens.shape for batch in batches] for batches in found] == [[(2, rows, 20)] * number] * ranks
    every, *empty = collate([batch for together in zip(*found, strict=True) for batch in together]).cut(real)
    assert_same(every, expected, number * ranks / real)
    for batch in empty:
        pad = Dataset.open(folder, "train").vocabulary.pad_id
        assert set(batch.tokens.unique().tolist()) | set(batch.targets.unique().tolist()) == {pad}
        assert not any(values.any() for values in (batch.positions, batch.segments, batch.weights))


def test_a_rank_reads_no_records_of_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    record = Dataset.record
    monkeypatch.setattr(Dataset, "record", lambda dataset, number: numbers.append(number) or record(dataset, number))
    steps = by_rank(folder, 4, lambda reader: next(reader.steps(0, 2, 2)))
    sentences = [int(batch.segments.max(dim=1).values.sum()) for step in steps for batch in step.micro_batches]
    assert len(numbers) == sum(sentences)


def test_processes_read_by_their_data_index(folder: Path) -> None:
    """With data 2 and tensor 2, the ranks of one data index read the same, as a thread of that index does."""
    found = run_ranks(read_as_rank, 4, folder, 1, 2, 2)
    first, second = by_rank(folder, 2, read)
    assert first != second
    assert found == [first, first, second, second]
