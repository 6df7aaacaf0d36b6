"""The schedule against the formula of its paper."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.train.schedule import inverse_square_root


@given(st.integers(1, 10**6), st.floats(0.01, 100), st.integers(1, 8192), st.integers(1, 10**5))
def test_formula(step: int, scale: float, width: int, warmup: int) -> None:
    expected = scale / width**0.5 * min(1 / step**0.5, step / warmup**1.5)
    assert inverse_square_root(step, scale, width, warmup) == pytest.approx(expected, rel=1e-12)


def test_rises_to_the_end_of_the_warm_up_and_falls_after_it() -> None:
    rates = [inverse_square_root(step, 1.0, 256, 100) for step in range(1, 400)]
    assert max(range(len(rates)), key=rates.__getitem__) == 99
    assert rates[99] == pytest.approx(1 / 16 / 10)
    assert rates[0] == pytest.approx(rates[99] / 100)
