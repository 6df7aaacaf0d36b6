"""The whole stack of layers on two tensor-parallel ranks against one process, and what is computed again."""

from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import numpy as np
import pytest
import torch
from gradients import Array, Part, part_of, put_together
from torch import Tensor, distributed, nn

from hzlm.config import LossConfig, ModelConfig
from hzlm.launch.processes import run_ranks
from hzlm.model.attention import Attention
from hzlm.model.embedding import TokenEmbedding
from hzlm.model.encoder_decoder import plan_layers
from hzlm.model.initial import initialize
from hzlm.model.losses import Labels, PartLoss, TrainingLoss
from hzlm.model.recompute import Recompute
from hzlm.model.setup import Setup
from hzlm.model.state import Batch
from hzlm.parallel.mesh import ALONE, Mesh, make_mesh
from hzlm.parallel.random import make_generator, seed_dropout
from hzlm.parallel.sharding import logical_shape, sharding_of

IDS, TARGET_START = 24, 7
"""17 targets and 7 other ids: neither can be halved."""
ROWS, LENGTH, HEADS, INNER = 4, 9, 4, 40
MODES: tuple[Recompute, ...] = ("none", "selective", "whole")


@dataclass(frozen=True)
class Case:
    """One way to run the stack."""

    split_rows: bool = False
    recompute: Recompute = "none"
    aligned: bool = False
    dropout: float = 0.0
    """Of hidden states and of attention weights."""


@dataclass(frozen=True)
class Found:
    """Of one rank: its loss, what the ranks together say of each side, and its gradients by name."""

    loss: float
    sides: dict[str, PartLoss]
    gradients: dict[str, Part]


def build(case: Case, setup: Setup) -> list[tuple[str, nn.Module]]:
    """The layers in float64, with weights that are large enough for every gradient to count."""
    config = ModelConfig(
        hidden_size=16,
        heads=HEADS,
        feed_forward_size=INNER,
        encoder_layers=2,
        decoder_layers=2,
        max_length=LENGTH,
        dropout=case.dropout,
        attention_dropout=case.dropout,
        aligned=case.aligned,
    )
    layers = []
    for layer in plan_layers(config, IDS, TARGET_START, setup):
        module = layer.build()
        initialize(module, layer.name, seed=3)
        module.double()
        for name, parameter in module.named_parameters():
            generator = make_generator("added", layer.name, name)
            whole = torch.randn(logical_shape(parameter), generator=generator, dtype=torch.float64)
            sharding = sharding_of(parameter)
            with torch.no_grad():
                parameter += 0.2 * (whole if sharding is None else sharding.take(whole))
        layers.append((layer.name, module))
    return layers


def draw_batch() -> tuple[Batch, Labels]:
    """Rows of two or three sentences with empty places behind them; the last row is full."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, IDS, (2, ROWS, LENGTH), generator=generator)
    targets = torch.randint(TARGET_START, IDS, (ROWS, LENGTH), generator=generator)
    lengths = [[3, 4], [1, 1, 5], [2, 2], [9]]
    segments = torch.zeros(ROWS, LENGTH, dtype=torch.int32)
    positions = torch.zeros(ROWS, LENGTH, dtype=torch.int64)
    for row, parts in enumerate(lengths):
        start = 0
        for number, length in enumerate(parts, start=1):
            segments[row, start : start + length] = number
            positions[row, start : start + length] = torch.arange(length)
            start += length
    weights = (segments > 0) * torch.rand(2, ROWS, LENGTH, generator=generator)
    weights[0] *= torch.rand(ROWS, LENGTH, generator=generator) < 0.5
    sentences = torch.where(segments > 0, 10 * torch.arange(1, ROWS + 1)[:, None] + segments, 0)
    return (tokens, positions, segments), (targets, weights, segments, sentences)


def run(case: Case, mesh: Mesh = ALONE) -> Found:
    """A forward and a backward pass."""
    setup = Setup(mesh, case.recompute)
    layers = build(case, setup)
    loss_of = TrainingLoss(LossConfig(encoder_weight=0.5, label_smoothing=0.1), IDS, TARGET_START, setup)
    batch, labels = draw_batch()
    seed_dropout(5, "dropout", 1, mesh)
    state: Any = batch
    for _, layer in layers:
        state = layer(state)
    loss = loss_of(cast(TokenEmbedding, layers[0][1]).project(state), labels)
    loss.backward()
    named = ((f"{name}.{inner}", part) for name, layer in layers for inner, part in layer.named_parameters())
    return Found(loss.item(), loss_of.take(), {name: part_of(parameter) for name, parameter in named})


def attend_alike(mesh: Mesh, dropout: float) -> Array:
    """The heads of every rank computing the same, if it were not for dropout: a gradient that tells their outputs."""
    config = ModelConfig(
        hidden_size=16, heads=HEADS, feed_forward_size=INNER, encoder_layers=1, decoder_layers=1, max_length=LENGTH,
        attention_dropout=dropout,
    )  # fmt: skip
    setup = Setup(mesh)
    attention = Attention(config, "attention", setup)
    for name, parameter in attention.named_parameters():
        torch.nn.init.normal_(parameter, generator=make_generator("alike", name))
    seed_dropout(5, "dropout", 1, mesh)
    x = torch.randn(ROWS, LENGTH, 16, generator=make_generator("x"))
    segments = torch.ones(ROWS, LENGTH, dtype=torch.int32)
    product = attention(x, x, segments, False, setup.begin_pass("layer", training=True))
    (product + attention.output.bias).square().sum().backward()
    return part_of(attention.output.weight).gradient


def run_as_rank(cases: list[Case]) -> tuple[list[Found], list[list[Array]]]:
    """On one of the tensor-parallel ranks: `run` of each case, and `attend_alike` without and with split rows, each
    without and with dropout."""
    distributed.init_process_group("gloo")
    try:
        ranks = distributed.get_world_size()
        meshes = {split: make_mesh(1, 1, ranks, split, torch.device("cpu")) for split in (False, True)}
        alike = [[attend_alike(mesh, dropout) for dropout in (0.0, 0.3)] for mesh in meshes.values()]
        return [run(case, meshes[case.split_rows]) for case in cases], alike
    finally:
        distributed.destroy_process_group()


CASES = [
    *(Case(*fields) for fields in product((False, True), MODES, (False, True))),
    *(Case(*fields, dropout=0.3) for fields in product((False, True), MODES)),
]


@pytest.fixture(scope="module")
def told() -> list[tuple[list[Found], list[list[Array]]]]:
    """What each of two ranks finds."""
    return run_ranks(run_as_rank, 2, CASES)


@pytest.fixture(scope="module")
def by_rank(told: list[tuple[list[Found], list[list[Array]]]]) -> dict[Case, list[Found]]:
    """What each of two ranks finds, by case."""
    return dict(zip(CASES, map(list, zip(*(found for found, _ in told), strict=True)), strict=True))


@pytest.fixture(scope="module")
def alone() -> dict[bool, Found]:
    """What one process finds without recomputing, by `aligned`."""
    return {aligned: run(Case(aligned=aligned)) for aligned in (False, True)}


@pytest.mark.parametrize("case", [case for case in CASES if case.dropout == 0.0], ids=str)
def test_two_ranks_equal_one_process(by_rank: dict[Case, list[Found]], alone: dict[bool, Found], case: Case) -> None:
    expected, found = alone[case.aligned], by_rank[case]
    for each in found:
        assert each.loss == pytest.approx(expected.loss, rel=1e-12)
        assert each.gradients.keys() == expected.gradients.keys()
        for side, of_side in expected.sides.items():
            assert each.sides[side].loss == pytest.approx(of_side.loss, rel=1e-12)
            assert (each.sides[side].correct, each.sides[side].counted) == (of_side.correct, of_side.counted)
    largest = max(float(np.linalg.norm(part.gradient)) for part in expected.gradients.values())
    for name, part in expected.gradients.items():
        gradient = put_together([each.gradients[name] for each in found], case.split_rows)
        difference = float(np.linalg.norm(gradient - part.gradient))
        # the true gradient of a key bias is zero
        bound = 1e-12 * largest if name.endswith("key.bias") else 1e-11 * float(np.linalg.norm(part.gradient))
        assert difference <= bound, name


def test_matrices_and_their_column_biases_are_cut(by_rank: dict[Case, list[Found]]) -> None:
    """Half of what the blocks compute with, and of the token table; norms, positions and the biases behind a sum are
    whole on both ranks."""
    for found in by_rank[Case()]:
        cut = {name for name, part in found.gradients.items() if part.dim is not None}
        columns = ("query", "key", "value", "expand")
        rows = ("output", "contract")
        assert cut == {"tokens.weight"} | {
            name
            for name in found.gradients
            if any(f".{kind}." in name for kind in columns) or any(name.endswith(f".{kind}.weight") for kind in rows)
        }
        for name in cut - {"tokens.weight"}:
            part = found.gradients[name]
            assert 2 * part.gradient.size == np.prod(part.shape)


@pytest.mark.parametrize("split_rows", [False, True])
def test_masks_of_two_ranks_are_the_same_when_computed_again(
    by_rank: dict[Case, list[Found]], split_rows: bool
) -> None:
    none, *others = (by_rank[Case(split_rows, mode, dropout=0.3)] for mode in MODES)
    for other in others:
        for expected, found in zip(none, other, strict=True):
            assert_identical(found, expected)
    dry = by_rank[Case(split_rows)]
    assert none[0].loss != dry[0].loss, "dropout is on"
    if not split_rows:
        for name in none[0].gradients:
            put_together([found.gradients[name] for found in none], split_rows)


def test_ranks_with_other_heads_drop_other_weights(told: list[tuple[list[Found], list[list[Array]]]]) -> None:
    (_, first), (_, second) = told
    for (dry, dropped), (their_dry, their_dropped) in zip(first, second, strict=True):
        np.testing.assert_array_equal(dry, their_dry)
        assert not np.allclose(dropped, their_dropped)


def assert_identical(found: Found, expected: Found) -> None:
    """Bit for bit."""
    assert found.loss == expected.loss
    for name, part in expected.gradients.items():
        assert np.array_equal(found.gradients[name].gradient, part.gradient), name


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputing_changes_no_bit(dropout: float) -> None:
    expected, *others = (run(Case(recompute=mode, dropout=dropout)) for mode in MODES)
    for found in others:
        assert_identical(found, expected)
    if dropout:
        assert expected.loss != run(Case()).loss


def test_what_is_computed_again_is_not_kept() -> None:
    """Selective: all but attention weights; whole: neither these nor what the feed-forward has inside."""
    attention_weights, inside = ROWS * HEADS * LENGTH * LENGTH, ROWS * LENGTH * INNER
    expected: dict[Recompute, set[int]] = {
        "none": {attention_weights, inside},
        "selective": {inside},
        "whole": set(),
    }
    for mode, wanted in expected.items():
        kept: set[int] = set()

        def keep(tensor: Tensor, kept: set[int] = kept) -> Tensor:
            kept.add(tensor.numel())
            return tensor

        state: Any = draw_batch()[0]
        for name, layer in build(Case(recompute=mode), Setup(recompute=mode)):
            kept.clear()
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                state = layer(state)
            if "." in name:
                assert kept & {attention_weights, inside} == wanted, f"{name}, {mode}"
