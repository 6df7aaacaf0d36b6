"""Tensor-parallel ranks on the Triton kernels, in their interpreter: with dropout they equal one process."""

from typing import Any, cast

import pytest
import torch
from torch import distributed

from hzlm.config import LossConfig, ModelConfig
from hzlm.kernels.faces import choose_kernels
from hzlm.launch.processes import run_ranks
from hzlm.model.embedding import TokenEmbedding
from hzlm.model.encoder_decoder import plan_layers
from hzlm.model.initial import initialize
from hzlm.model.losses import TrainingLoss
from hzlm.model.recompute import Recompute
from hzlm.model.setup import Setup
from hzlm.parallel.mesh import ALONE, Mesh, make_mesh

IDS, TARGET_START = 24, 7
ROWS, LENGTH = 2, 9
CPU = torch.device("cpu")


def run(mesh: Mesh, recompute: Recompute = "none") -> tuple[float, float]:
    """The loss of a stack of layers that drop a fifth everywhere, and the norm of the gradient of the place tables."""
    config = ModelConfig(
        hidden_size=64, heads=2, feed_forward_size=48, encoder_layers=1, decoder_layers=1, max_length=LENGTH,
        dropout=0.2, attention_dropout=0.2, activation_dropout=0.2,
    )  # fmt: skip
    setup = Setup(mesh, recompute, choose_kernels("triton", CPU, config))
    setup.draws.begin(5, "dropout", 1)
    layers = []
    for layer in plan_layers(config, IDS, TARGET_START, setup):
        layers.append(layer.build())
        initialize(layers[-1], layer.name, seed=3)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, IDS, (2, ROWS, LENGTH), generator=generator)
    targets = torch.randint(TARGET_START, IDS, (ROWS, LENGTH), generator=generator)
    segments = torch.tensor([[1] * 4 + [2] * 5, [1] * 6 + [0] * 3], dtype=torch.int32)
    positions = torch.tensor([[*range(4), *range(5)], [*range(6), 0, 0, 0]])
    weights = (segments > 0) * torch.rand(2, ROWS, LENGTH, generator=generator)
    state: Any = (tokens, positions, segments)
    for module in layers:
        state = module(state)
    loss_of = TrainingLoss(LossConfig(encoder_weight=0.5, label_smoothing=0.1), IDS, TARGET_START, setup)
    loss = loss_of(cast(TokenEmbedding, layers[0]).project(state), (targets, weights))
    loss.backward()
    gradient = layers[1].get_parameter("source").grad
    assert gradient is not None
    square = gradient.square().sum()
    if mesh.split_rows:  # each rank has the part of the gradient that its rows make
        distributed.all_reduce(gradient)
        square = gradient.square().sum()
    return loss.item(), square.sqrt().item()


def run_as_rank() -> list[tuple[float, float]]:
    distributed.init_process_group("gloo")
    try:
        return [run(make_mesh(1, 1, 2, split_rows, CPU)) for split_rows in (False, True)]
    finally:
        distributed.destroy_process_group()


def test_two_ranks_draw_the_masks_of_one_process() -> None:
    loss, norm = run(ALONE)
    for rank in run_ranks(run_as_rank, 2):
        for found in rank:
            assert found == (pytest.approx(loss, rel=1e-5), pytest.approx(norm, rel=1e-4))


def test_recomputing_draws_the_same_masks() -> None:
    expected = run(ALONE)
    assert run(ALONE, "selective") == expected
    assert run(ALONE, "whole") == expected
