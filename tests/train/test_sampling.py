"""Scheduled sampling: how its share grows, which inputs it replaces, and that without it nothing changes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch
from engines import changes, make_config, start_engine, state_of
from hypothesis import given
from hypothesis import strategies as st

from hzlm.config import ModelConfig, SamplingConfig
from hzlm.data.batches import MicroBatch
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.parallel.mesh import ALONE, Axis, Mesh
from hzlm.train.sampling import mix_inputs, predicted_share

Write = Callable[[Path, Sequence[str]], Path]
Schedule = Literal["linear", "exponential", "inverse_sigmoid"]
SCHEDULES: tuple[Schedule, ...] = ("linear", "exponential", "inverse_sigmoid")


@given(st.sampled_from(SCHEDULES), st.integers(1, 10**6), st.floats(0.01, 1.0))
def test_the_share_grows_to_a_half_and_to_its_highest(schedule: Schedule, half: int, highest: float) -> None:
    config = SamplingConfig(schedule=schedule, half_steps=half, highest_rate=highest)
    assert predicted_share(config, half + 1) == pytest.approx(min(0.5, highest))
    shares = [predicted_share(config, step) for step in (1, half // 2 + 1, half + 1, 2 * half + 1, 40 * half + 1)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(highest, rel=1e-6)


def test_the_formulas_of_the_paper() -> None:
    """Section 2.4, with k = 0.5^(1/100), and k ln k = 100 solved by bisection."""
    low, high = 1.0, 100.0
    for _ in range(80):
        k = (low + high) / 2
        low, high = (k, high) if k * torch.tensor(k).log().item() < 100 else (low, k)
    for i in (0, 7, 100, 250):
        epsilons = {
            "linear": max(0.0, 1 - i / 200),
            "exponential": (0.5**0.01) ** i,
            "inverse_sigmoid": k / (k + torch.tensor(i / k).exp().item()),
        }
        for schedule in SCHEDULES:
            share = predicted_share(SamplingConfig(schedule=schedule, half_steps=100), i + 1)
            assert share == pytest.approx(1 - epsilons[schedule], abs=1e-5)
    assert predicted_share(SamplingConfig(), 10**6) == 0.0


def one_row() -> MicroBatch:
    """Two sentences of three characters, the first position of the second one context, and two empty places."""
    tokens = torch.tensor([[[9] * 8], [[1, 11, 12, 1, 14, 15, 0, 0]]])
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 0, 0]], dtype=torch.int32)
    targets = torch.tensor([[11, 12, 13, 14, 15, 16, 0, 0]])
    weights = torch.ones(2, 1, 8) * (targets > 0)
    weights[:, 0, 3] = 0.0
    return MicroBatch(tokens, torch.arange(8)[None], segments, targets, weights, (weights[0] > 0).long())


def test_inputs_become_the_prediction_of_the_position_before() -> None:
    batch = one_row()
    predicted = (batch.targets + 10) * (batch.weights[1] > 0)
    (mixed,) = mix_inputs([batch], [predicted], 1.0, ("key",), ALONE)
    assert mixed.tokens[1].tolist() == [[1, 21, 22, 1, 14, 25, 0, 0]]
    assert torch.equal(mixed.tokens[0], batch.tokens[0])
    assert batch.tokens[1].tolist() == [[1, 11, 12, 1, 14, 15, 0, 0]], "the batch itself is untouched"
    (same,) = mix_inputs([batch], [predicted], 0.0, ("key",), ALONE)
    assert torch.equal(same.tokens, batch.tokens)


def test_what_is_replaced_depends_on_the_row_of_the_step_alone() -> None:
    batch = one_row()
    rows = MicroBatch(*(part.repeat_interleave(1, 0) for part in vars(batch).values()))
    step = [rows] * 8
    predicted = [(rows.targets + 10) * (rows.weights[1] > 0)] * 8
    alone = mix_inputs(step, predicted, 0.5, ("key",), ALONE)
    for index in (0, 1):
        mesh = Mesh(data=Axis(2, index))
        own = mix_inputs(step[::2], predicted[::2], 0.5, ("key",), mesh)
        for ours, theirs in zip(own, alone[index::2], strict=True):
            assert torch.equal(ours.tokens, theirs.tokens)
    inputs = torch.stack([part.tokens[1] for part in alone])[:, 0, [1, 2, 5]]
    share = (inputs > 20).float().mean().item()
    assert 0.2 < share < 0.8
    other = mix_inputs(step, predicted, 0.5, ("another key",), ALONE)
    assert any(not torch.equal(a.tokens, b.tokens) for a, b in zip(alone, other, strict=True))


def test_both_passes_of_r_drop_get_the_same_inputs() -> None:
    batch = one_row()
    pair = MicroBatch(*(torch.cat([part, part], 1 if part.dim() == 3 else 0) for part in vars(batch).values()))
    predicted = (pair.targets + 10) * (pair.weights[1] > 0)
    for alike in (True, False):
        mixed = mix_inputs([pair] * 9, [predicted] * 9, 0.5, ("key",), ALONE, alike)
        assert all(torch.equal(*part.tokens[1]) for part in mixed) == alike
        assert any((part.tokens[1] > 20).any() for part in mixed)


def test_a_share_of_nothing_is_teacher_forcing_bit_for_bit(
    tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig
) -> None:
    """At the first step every schedule is at 0; at later ones they are not, and the weights differ."""
    data = write_dataset(tmp_path / "data", sentences)
    model = model_config.model_copy(update={"dropout": 0.1})
    forced, steps = start_engine(make_config(data, model))
    sampled, _ = start_engine(make_config(data, model, sampling={"schedule": "linear", "half_steps": 1}))
    first, second = next(steps), next(steps)
    sampled.predict(first)  # which leaves no trace
    for engine in (forced, sampled):
        engine.train_step(first, 1, 0.01)
    assert changes(sampled, state_of(forced)) == []
    for engine in (forced, sampled):
        engine.train_step(second, 2, 0.01)
    assert changes(sampled, state_of(forced)) != []


def test_predictions_are_the_best_of_the_plain_model(
    tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig
) -> None:
    config = make_config(write_dataset(tmp_path / "data", sentences), model_config.model_copy(update={"dropout": 0.5}))
    engine, steps = start_engine(config)
    batches = next(steps)
    found = engine.predict(batches)
    vocabulary_size = engine.parameters["tokens.weight"].weight.shape[0]
    start = engine._predictor._target_start
    plain = EncoderDecoder(config.model, vocabulary_size, start).initialize(config.train.seed).eval()
    for batch, ids in zip(batches, found, strict=True):
        hidden, _ = plain(batch.inputs)
        expected = (plain.logits(hidden[1]).argmax(-1) + start) * (batch.weights[1] > 0)
        assert torch.equal(ids, expected)
