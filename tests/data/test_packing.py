"""Packing: no sample lost, none twice, no row too full, few gaps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data.packing import pack, segment_places


@given(st.lists(st.integers(1, 24), max_size=300))
def test_every_sample_lies_in_one_row_that_has_room(lengths: list[int]) -> None:
    rows = pack(np.array(lengths, dtype=np.int32), capacity=24)
    assert sorted(sample for row in rows for sample in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[sample] for sample in row) <= 24 for row in rows)
    assert rows == pack(np.array(lengths, dtype=np.int32), capacity=24)


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
