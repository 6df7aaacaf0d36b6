"""A column-parallel and a row-parallel layer in real processes, against two whole layers in float64."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from row_modes import run_in_both_row_modes
from torch import Tensor, nn
from torch.nn import functional

from hzlm.launch.processes import run_ranks
from hzlm.parallel.collectives import enter, own_rows
from hzlm.parallel.linear import ColumnParallelLinear, RowParallelLinear
from hzlm.parallel.mesh import ALONE, Mesh
from hzlm.parallel.sharding import logical_shape, sharding_of

ROWS, INPUTS, INNER, OUTPUTS = 6, 5, 7, 4
Array = npt.NDArray[np.float64]


class Pair(NamedTuple):
    """Two layers, input and what the output is multiplied with to make a scalar of it."""

    first: nn.Linear
    second: nn.Linear
    x: Tensor
    pull: Tensor


def draw() -> Pair:
    generator = torch.Generator().manual_seed(5)
    first, second = nn.Linear(INPUTS, INNER).double(), nn.Linear(INNER, OUTPUTS).double()
    x = torch.empty(ROWS, 3, INPUTS, dtype=torch.float64)
    pull = torch.empty(ROWS, 3, OUTPUTS, dtype=torch.float64)
    with torch.no_grad():
        for tensor in (*first.parameters(), *second.parameters(), x, pull):
            tensor.normal_(generator=generator)
    return Pair(first, second, x.requires_grad_(), pull)


def fill(parameter: nn.Parameter, whole: Tensor) -> nn.Parameter:
    """Puts in this rank's part of a whole tensor."""
    sharding = sharding_of(parameter)
    with torch.no_grad():
        parameter.copy_(whole if sharding is None else sharding.take(whole))
    return parameter


def run_pair(mesh: Mesh) -> list[Array]:
    """On one rank: the output, and the gradients of the input, of both weights and of both biases."""
    whole = draw()
    column = ColumnParallelLinear(INPUTS, INNER, mesh).double()
    row = RowParallelLinear(INNER, OUTPUTS, mesh).double()
    parameters = [
        fill(column.weight, whole.first.weight),
        fill(row.weight, whole.second.weight),
        fill(column.bias, whole.first.bias),
        fill(row.bias, whole.second.bias),
    ]
    x = own_rows(whole.x.detach(), mesh).clone().requires_grad_()
    y = row(functional.relu(column(enter(x, mesh)))) + row.bias
    gradients = torch.autograd.grad((y * own_rows(whole.pull, mesh)).sum(), [x, *parameters])
    return [tensor.detach().numpy() for tensor in (y, *gradients)]


@pytest.fixture(scope="module", params=[2, 3])
def found(request: pytest.FixtureRequest) -> list[tuple[list[Array], list[Array]]]:
    """Two ranks share the inner width of 7 as 3 and 4, three ranks as 2, 2 and 3."""
    return run_ranks(run_in_both_row_modes, request.param, run_pair)


@pytest.fixture(scope="module")
def expected() -> list[Array]:
    whole = draw()
    y = whole.second(functional.relu(whole.first(whole.x)))
    wanted = (whole.x, whole.first.weight, whole.second.weight, whole.first.bias, whole.second.bias)
    gradients = torch.autograd.grad((y * whole.pull).sum(), wanted)
    return [tensor.detach().numpy() for tensor in (y, *gradients)]


def assert_close(ours: Array, theirs: Array) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_pair_equals_the_whole_layers(found: list[tuple[list[Array], list[Array]]], expected: list[Array]) -> None:
    """Output and input gradient are whole on every rank, and so is the gradient of the bias behind the sum."""
    y, x, first, second, first_bias, second_bias = expected
    parts = [whole for whole, _ in found]
    for part in parts:
        assert_close(part[0], y)
        assert_close(part[1], x)
        assert_close(part[5], second_bias)
    assert_close(np.concatenate([part[2] for part in parts]), first)
    assert_close(np.concatenate([part[3] for part in parts], axis=1), second)
    assert_close(np.concatenate([part[4] for part in parts]), first_bias)
    assert [len(part[2]) for part in parts] == ([3, 4] if len(parts) == 2 else [2, 2, 3])


def test_a_pair_with_split_rows_equals_the_whole_layers(
    found: list[tuple[list[Array], list[Array]]], expected: list[Array]
) -> None:
    """Every rank has its own rows of output and input gradient; the bias behind the sum has seen these only."""
    y, x, first, second, first_bias, second_bias = expected
    parts = [split for _, split in found]
    assert_close(np.concatenate([part[0] for part in parts]), y)
    assert_close(np.concatenate([part[1] for part in parts]), x)
    assert_close(np.concatenate([part[2] for part in parts]), first)
    assert_close(np.concatenate([part[3] for part in parts], axis=1), second)
    assert_close(np.concatenate([part[4] for part in parts]), first_bias)
    assert_close(np.sum([part[5] for part in parts], axis=0), second_bias)
    assert len({len(part[0]) for part in parts}) == 1
    assert not np.allclose(parts[0][5], second_bias)


def test_a_layer_of_one_rank_is_a_plain_one(expected: list[Array]) -> None:
    for ours, theirs in zip(run_pair(ALONE), expected, strict=True):
        assert_close(ours, theirs)
    for layer in (ColumnParallelLinear(INPUTS, INNER, ALONE), RowParallelLinear(INNER, OUTPUTS, ALONE)):
        for parameter in layer.parameters():
            assert sharding_of(parameter) is None
            assert logical_shape(parameter) == tuple(parameter.shape)
