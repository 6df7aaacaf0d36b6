"""Packing: no sample lost, none twice, no row too full, few gaps."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data.packing import pack, segment_places


def pack_one_by_one(lengths: list[int], capacity: int) -> list[int]:
    """Best-fit decreasing as a textbook has it: how full each row gets."""
    filled: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [row for row, used in enumerate(filled) if used + length <= capacity]
        if fits:
            filled[max(fits, key=filled.__getitem__)] += length
        else:
            filled.append(length)
    return filled


@given(st.lists(st.integers(1, 24), max_size=300))
def test_every_sample_lies_in_one_row_that_has_room(lengths: list[int]) -> None:
    rows = [row.tolist() for row in pack(np.array(lengths, dtype=np.int32), capacity=24)]
    assert sorted(sample for row in rows for sample in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[sample] for sample in row) <= 24 for row in rows)
    assert rows == [row.tolist() for row in pack(np.array(lengths, dtype=np.int32), capacity=24)]


@given(st.integers(1, 40).flatmap(lambda capacity: st.tuples(
    st.just(capacity), st.lists(st.integers(1, capacity), max_size=200)
)))  # fmt: skip
def test_rows_are_as_full_as_placing_one_by_one_makes_them(case: tuple[int, list[int]]) -> None:
    capacity, lengths = case
    rows = pack(np.array(lengths, dtype=np.int32), capacity)
    found = [sum(lengths[sample] for sample in row.tolist()) for row in rows]
    assert sorted(found) == sorted(pack_one_by_one(lengths, capacity))


def test_a_window_is_packed_in_a_moment() -> None:
    lengths = np.random.default_rng(0).geometric(0.05, size=65_536).clip(1, 512)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        pack(lengths, capacity=512)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1


def test_real_lengths_leave_less_than_three_percent_free() -> None:
    """Clause lengths of news text are roughly geometric with mean 10; the bound is the design's."""
    lengths = np.random.default_rng(0).geometric(0.1, size=20_000).clip(1, 32)
    rows = pack(lengths, capacity=32)
    assert lengths.sum() / (32 * len(rows)) > 0.97


@given(st.lists(st.integers(1, 6), max_size=5))
def test_segments_and_positions_by_hand(lengths: list[int]) -> None:
    segments, positions = segment_places(lengths, capacity=30)
    rest = 30 - sum(lengths)
    assert segments.tolist() == [n for n, length in enumerate(lengths, 1) for _ in range(length)] + [0] * rest
    assert positions.tolist() == [place for length in lengths for place in range(length)] + [0] * rest


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(9, 20))
def test_unpacking_gives_the_samples_back(lengths: list[int], capacity: int) -> None:
    """Laid out by segment_places and read off by segment and position, each sample is again what it was."""
    samples = [np.arange(length) + 100 * number for number, length in enumerate(lengths)]
    unpacked: dict[int, list[int]] = {}
    for samples_of_row in pack(np.array(lengths, dtype=np.int32), capacity):
        row = samples_of_row.tolist()
        segments, positions = segment_places([lengths[sample] for sample in row], capacity)
        laid = np.full(capacity, -1)
        joined = np.concatenate([samples[sample] for sample in row])
        laid[: len(joined)] = joined
        assert (laid[segments == 0] == -1).all()
        for number, sample in enumerate(row, start=1):
            places = np.flatnonzero(segments == number)
            unpacked[sample] = laid[places[np.argsort(positions[places])]].tolist()
    assert unpacked == {number: sample.tolist() for number, sample in enumerate(samples)}
