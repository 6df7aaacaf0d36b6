"""The training loss against torch's cross entropy."""

import pytest
import torch
from torch.nn import functional

from hzlm.config import LossConfig
from hzlm.model.losses import TrainingLoss

NO_SENTENCES = (torch.zeros(0, 0, dtype=torch.int32), torch.zeros(0, 0, dtype=torch.int64))
"""Segments and sentences, which cross entropy does not look at."""


def test_sum_of_both_sides_at_the_positions_that_count() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 3, 5, 8, generator=generator).requires_grad_()
    table = torch.randn(20, 8, generator=generator)
    targets = torch.randint(6, 20, (3, 5), generator=generator)
    weights = torch.rand(2, 3, 5, generator=generator) * (torch.rand(2, 3, 5, generator=generator) > 0.4)
    loss = TrainingLoss(LossConfig(encoder_weight=0.5, decoder_weight=2.0, label_smoothing=0.1), 20, target_start=6)
    total = loss((hidden, table), (targets, weights, *NO_SENTENCES))
    logits = hidden @ table[6:].T
    sides = [
        functional.cross_entropy(side.flatten(0, 1), targets.flatten() - 6, reduction="none", label_smoothing=0.1)
        @ weight.flatten()
        for side, weight in zip(logits, weights, strict=True)
    ]
    torch.testing.assert_close(total, 0.5 * sides[0] + 2.0 * sides[1])
    taken = loss.take()
    assert taken["encoder"].loss == pytest.approx(sides[0].item(), rel=1e-5)
    asked = (weights[0] > 0) & (weights[1] > 0)
    assert 0 < asked.sum() < (weights[1] > 0).sum()
    assert taken["decoder"].counted == int(asked.sum())
    assert taken["decoder"].correct == int(((logits[1].argmax(-1) + 6 == targets) & asked).sum())
    assert {(side.loss, side.counted) for side in loss.take().values()} == {(0.0, 0)}


def test_a_side_without_weight_costs_nothing() -> None:
    loss = TrainingLoss(LossConfig(), 9, target_start=2)
    loss((torch.randn(2, 1, 4, 8), torch.randn(9, 8)), (torch.full((1, 4), 3), torch.ones(2, 1, 4), *NO_SENTENCES))
    assert loss.take().keys() == {"decoder"}
