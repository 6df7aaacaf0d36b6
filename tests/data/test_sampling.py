"""The order of the samples depends on (seed, epoch) and can be entered anywhere."""

from itertools import islice

import numpy as np
import pytest

from hzlm.data import sampling
from hzlm.data.sampling import Cursor, RowOrder


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> RowOrder:
    monkeypatch.setattr(sampling, "WINDOW", 40)  # three windows an epoch
    lengths = np.random.default_rng(0).integers(1, 9, size=100).astype(np.int32)
    return RowOrder(lengths, row_length=10, seed=5)


def take(order: RowOrder, cursor: Cursor, count: int) -> list[tuple[tuple[int, ...], Cursor]]:
    return [(tuple(samples.tolist()), after) for samples, after in islice(order.rows(cursor), count)]


def test_every_epoch_has_every_sample_once_in_another_order(order: RowOrder) -> None:
    epochs: dict[int, list[int]] = {}
    cursor = Cursor()
    for samples, after in take(order, cursor, 150):
        epochs.setdefault(cursor.epoch, []).extend(samples)
        cursor = after
    assert len(epochs) >= 3
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(100))
    assert epochs[0] != epochs[1]


def test_going_on_from_any_cursor_gives_the_same_rows(order: RowOrder) -> None:
    straight = take(order, Cursor(), 150)
    for number in (0, 1, 17, 39, 62, 99):
        _, cursor = straight[number]
        assert take(order, cursor, 50) == straight[number + 1 : number + 51]


def test_another_seed_gives_another_order(order: RowOrder) -> None:
    other = RowOrder(order._lengths, row_length=10, seed=6)
    assert take(order, Cursor(), 20) != take(other, Cursor(), 20)
