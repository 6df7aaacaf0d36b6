"""The schedule against the formula of its paper."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.config import ScheduleConfig
from hzlm.train.schedule import learning_rate


@given(st.integers(1, 10**6), st.floats(0.01, 100), st.integers(1, 8192), st.integers(1, 10**5))
def test_formula(step: int, scale: float, width: int, warmup: int) -> None:
    config = ScheduleConfig(scale=scale, warmup_steps=warmup)
    expected = scale / width**0.5 * min(1 / step**0.5, step / warmup**1.5)
    assert learning_rate(config, width, 10**6, step) == pytest.approx(expected, rel=1e-12)


def test_rises_to_the_end_of_the_warm_up_and_falls_after_it() -> None:
    config = ScheduleConfig(scale=1.0, warmup_steps=100)
    rates = [learning_rate(config, 256, 400, step) for step in range(1, 401)]
    assert max(range(len(rates)), key=rates.__getitem__) == 99
    assert rates[99] == pytest.approx(1 / 16 / 10)
    assert rates[0] == pytest.approx(rates[99] / 100)


def test_cools_down_over_the_last_steps_alone() -> None:
    plain, cooled = (ScheduleConfig(scale=1.0, warmup_steps=10, cooldown_steps=steps) for steps in (0, 20))
    ratios = [learning_rate(cooled, 64, 100, step) / learning_rate(plain, 64, 100, step) for step in range(1, 101)]
    assert ratios[:80] == [1.0] * 80
    assert ratios[80:] == pytest.approx([left / 21 for left in range(20, 0, -1)])
