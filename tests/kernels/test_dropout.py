"""The generator behind dropout against its published answers, and what the masks promise."""

from typing import Any

import numpy as np
import pytest
import torch

from hzlm.kernels.dropout import NO_DROPOUT, Draw, kept_features, kept_weights, philox

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("rounds", "counter", "key", "expected"),
    [
        (7, (0, 0, 0, 0), (0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
        (7, (ONES,) * 4, (ONES,) * 2, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
        (
            7,
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
        ),
        (10, (0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ],
)
def test_philox_gives_the_known_answers_of_random123(
    rounds: int, counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]
) -> None:
    first, second, third, fourth = (np.array([word], np.uint64) for word in counter)
    words = philox((first, second, third, fourth), key[0] + (key[1] << 32), rounds)
    assert tuple(int(word[0]) for word in words) == expected


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_mask_drops_its_share(rate: float) -> None:
    """Of 100,000 elements; five standard deviations."""
    draw = Draw(rate, 2**62 + 12345)
    bound = 5 * (rate * (1 - rate) / 100_000) ** 0.5
    for kept in (kept_features(draw, 500, 200), kept_weights(draw, 2, 5, 100)):
        assert kept.float().mean().item() == pytest.approx(1 - rate, abs=bound)
        assert kept.float().mean().item() * draw.scale == pytest.approx(1.0, abs=bound * draw.scale)


def test_without_dropout_everything_is_kept() -> None:
    assert NO_DROPOUT.threshold == 0
    assert NO_DROPOUT.scale == 1.0
    assert kept_features(NO_DROPOUT, 30, 40).all()


def test_a_part_draws_what_the_whole_draws_there() -> None:
    whole = kept_features(Draw(0.3, 7), 20, 24)
    assert torch.equal(kept_features(Draw(0.3, 7, row=5, column=8), 6, 12), whole[5:11, 8:20])
    weights = kept_weights(Draw(0.3, 7), 3, 4, 11)
    assert torch.equal(kept_weights(Draw(0.3, 7, row=1, column=2), 2, 2, 11), weights[1:, 2:])
    assert torch.equal(kept_weights(Draw(0.3, 7), 3, 4, 5), weights[:, :, :5, :5]), "whatever the length of a row"


@pytest.mark.parametrize("other", [Draw(0.5, 8), Draw(0.5, 7 + 2**32), Draw(0.5, 7, row=1000), Draw(0.5, 7, column=4)])
def test_another_place_or_seed_draws_another_mask(other: Draw) -> None:
    """Two masks of independent halves agree in half of their elements."""
    agreed = kept_features(Draw(0.5, 7), 100, 100) == kept_features(other, 100, 100)
    assert agreed.float().mean().item() == pytest.approx(0.5, abs=0.025)
    agreed = kept_weights(Draw(0.5, 7), 1, 1, 100) == kept_weights(other, 1, 1, 100)
    assert agreed.float().mean().item() == pytest.approx(0.5, abs=0.025)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((1.0, 0), r"draw\.rate is 1\.0; it must be in \[0, 1\)"),
        ((-0.1, 0), r"draw\.rate is -0\.1"),
        ((0.1, 2**63), r"draw\.seed is 9223372036854775808; it must be in \[0, 2\^63\)"),
        ((0.1, 0, -1), r"draw\.row is -1; it must be in \[0, 2\^32\)"),
        ((0.1, 0, 0, 2**32), r"draw\.column is 4294967296"),
    ],
)
def test_a_draw_refuses_numbers_that_no_counter_holds(numbers: tuple[Any, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Draw(*numbers)
