"""The order of the samples: shares, epochs, one integer to go on from, and memory that the corpus does not touch."""

import tracemalloc
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data import sampling
from hzlm.data.sampling import RowOrder, SampleOrder, Samples


def make_blend(sizes: Sequence[int], shares: Sequence[float] | None = None, longest: int = 8) -> Any:
    """What an order asks of a blend; sentences of 1 to `longest` characters."""
    generator = np.random.default_rng(0)
    datasets = []
    for number, size in enumerate(sizes):
        lengths = generator.integers(1, longest + 1, size).astype(np.int32)
        datasets.append(FakeDataset(lengths, fingerprint=str(number)))
    return SimpleNamespace(datasets=datasets, sample_shares=shares or [size / sum(sizes) for size in sizes])


class FakeDataset:
    def __init__(self, lengths: np.ndarray, fingerprint: str) -> None:
        self.lengths = lengths
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.lengths)


def names_of(samples: Samples) -> list[tuple[int, int]]:
    return list(zip(samples.datasets.tolist(), samples.records.tolist(), strict=True))


def take(order: RowOrder, cursor: int, count: int) -> list[tuple[tuple[int, ...], int]]:
    return [(tuple(samples.places.tolist()), after) for samples, after in islice(order.rows(cursor), count)]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(1e-3, 1)), min_size=1, max_size=5),
    st.lists(st.integers(0, 10**12), min_size=1, max_size=50),
)
def test_every_place_can_be_asked_for_alone(datasets: list[tuple[int, float]], places: list[int]) -> None:
    sizes, shares = zip(*datasets, strict=True)
    order = SampleOrder(sizes, [share / sum(shares) for share in shares], range(len(sizes)))
    together = order.at(np.array(places))
    alone = [order.at(np.array([place])) for place in places]
    assert names_of(together) == [name for samples in alone for name in names_of(samples)]
    assert together.epochs.tolist() == [int(samples.epochs[0]) for samples in alone]


@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(0.01, 1)), min_size=1, max_size=5),
    st.integers(1, 5000),
)
def test_the_beginning_has_the_shares_and_each_dataset_epoch_after_epoch(
    datasets: list[tuple[int, float]], count: int
) -> None:
    sizes, weights = zip(*datasets, strict=True)
    shares = np.array(weights) / sum(weights)
    samples = SampleOrder(sizes, shares.tolist(), range(len(sizes))).at(np.arange(count))
    counts = np.bincount(samples.datasets, minlength=len(sizes))
    # Webster's rounding of the exact quotas: off by less than one place, but for rare cases of three or more parties
    assert np.abs(counts - count * shares).max() < (1 if len(sizes) < 3 else 2) + count / sampling.CYCLE * len(sizes)
    for number, size in enumerate(sizes):
        records = samples.records[samples.datasets == number]
        for start in range(0, len(records), size):
            epoch = records[start : start + size]
            assert len(set(epoch.tolist())) == len(epoch), "no sentence twice before every other came"


def test_a_long_run_has_the_shares() -> None:
    """Also the small ones, far beyond one cycle."""
    shares = [0.6, 0.3, 0.0999, 0.0001]
    order = SampleOrder([10**9, 10**6, 1000, 10], shares, range(4))
    length = len(order.at(np.arange(10**6)))
    counts = np.bincount(order.at(np.arange(10**6) + 10**11).datasets, minlength=4) / length
    np.testing.assert_allclose(counts, shares, atol=2 / sampling.CYCLE + 4e-6)


def test_epochs_differ_and_so_do_seeds() -> None:
    order, other = SampleOrder([100], [1.0], [5]), SampleOrder([100], [1.0], [6])
    first, second = (order.at(np.arange(100) + start).records.tolist() for start in (0, 100))
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    assert first != other.at(np.arange(100)).records.tolist()
    assert first != sorted(first)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> RowOrder:
    """Two datasets of 70 and 30 sentences in windows of 40."""
    monkeypatch.setattr(sampling, "WINDOW", 40)
    return RowOrder(make_blend([70, 30]), row_length=10, seed=5)


def test_rows_hold_the_whole_order_window_by_window(order: RowOrder) -> None:
    places: list[int] = []
    before = 0
    for row, after in islice(order.rows(0), 300):
        assert after > before
        if before // 40 == after // 40:
            assert after == before + 1
        else:
            assert after % 40 == 0
        assert set(row.places // 40) == {before // 40}
        places += row.places.tolist()
        before = after
    done = before // 40 * 40
    assert done >= 400
    assert sorted(places)[:done] == list(range(done)), "every place once"


def test_a_row_has_room_for_its_sentences(order: RowOrder) -> None:
    lengths = [dataset.lengths for dataset in make_blend([70, 30]).datasets]
    filled = [sum(lengths[d][n] for d, n in names_of(row)) for row, _ in islice(order.rows(0), 100)]
    assert max(filled) <= 10
    assert sum(filled) / 1000 > 0.9


def test_going_on_from_any_cursor_gives_the_same_rows(order: RowOrder) -> None:
    straight = take(order, 0, 150)
    for number in (0, 1, 17, 39, 62, 99):
        _, cursor = straight[number]
        assert take(order, cursor, 50) == straight[number + 1 : number + 51]


def test_another_seed_gives_another_order() -> None:
    one, other = (RowOrder(make_blend([100]), row_length=10, seed=seed) for seed in (5, 6))
    assert [names_of(row) for row, _ in islice(one.rows(0), 20)] != [
        names_of(row) for row, _ in islice(other.rows(0), 20)
    ]


@pytest.mark.parametrize("readers", [1, 2, 4])
def test_however_many_read_a_step_together_they_read_its_rows(readers: int) -> None:
    """Reader r of R, which knows only the seed and the cursor, takes the rows r, r + R, ... of the step."""
    rows_a_step, cursor = 8, 1234
    whole = [names_of(row) for row, _ in islice(RowOrder(make_blend([700, 300]), 10, seed=5).rows(cursor), rows_a_step)]
    parts: list[list[tuple[int, int]]] = [[]] * rows_a_step
    for reader in range(readers):
        own = RowOrder(make_blend([700, 300]), 10, seed=5)
        mine = islice(own.rows(cursor), reader, rows_a_step, readers)
        parts[reader::readers] = [names_of(row) for row, _ in mine]
    assert parts == whole


def test_a_small_dataset_is_not_packed_with_itself() -> None:
    """Sixty sentences are a window: an epoch's rows hold each of them once."""
    order = RowOrder(make_blend([60]), row_length=10, seed=5)
    rows = [(names_of(row), after) for row, after in islice(order.rows(0), 200)]
    first = [name for names, after in rows if after <= 60 for name in names]
    assert sorted(first) == [(0, number) for number in range(60)]


@pytest.mark.parametrize("sizes", [[100], [37], [70, 30], [1000, 10]])
def test_the_first_epoch_has_every_sample_once(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    monkeypatch.setattr(sampling, "WINDOW", 40)
    found = Counter(
        name for row in RowOrder(make_blend(sizes), row_length=10, seed=5).first_epoch() for name in names_of(row)
    )
    assert found == {(dataset, number): 1 for dataset, size in enumerate(sizes) for number in range(size)}


def test_the_first_epoch_keeps_the_shares_while_it_can() -> None:
    """Equal shares of 1,000 and 10 sentences: first both in turn, then what the larger one has left."""
    order = RowOrder(make_blend([1000, 10], shares=[0.5, 0.5]), row_length=10, seed=5)
    found = sorted(
        (place, name) for row in order.first_epoch() for place, name in zip(row.places, names_of(row), strict=True)
    )
    assert Counter(dataset for _, (dataset, _) in found[:20]) == {0: 10, 1: 10}
    assert len(found) == len({name for _, name in found}) > 500


def test_efficiency_is_the_share_of_filled_positions() -> None:
    blend = make_blend([500])
    order = RowOrder(blend, row_length=10, seed=5)
    rows = sum(after <= 500 for _, after in islice(order.rows(0), 500))
    assert order.efficiency() == pytest.approx(blend.datasets[0].lengths.sum() / (10 * rows))
    assert order.efficiency() > 0.97


def test_memory_does_not_grow_with_the_corpus() -> None:
    """A billion sentences, all of one length, as far as anybody asks."""
    lengths = np.broadcast_to(np.array(7, np.int32), (10**9,))
    blend = SimpleNamespace(datasets=[FakeDataset(lengths, "0")], sample_shares=[1.0])
    tracemalloc.start()
    order = RowOrder(blend, row_length=128, seed=5)  # type: ignore[arg-type]
    (row, _), *_ = islice(order.rows(cursor=3 * 10**9), 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(row) == 18
    assert peak < 64 << 20
