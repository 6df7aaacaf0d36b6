"""R-Drop against torch's Kullback-Leibler divergence."""

import pytest
import torch
from torch import distributed
from torch.nn import functional

from hzlm.launch.processes import run_ranks
from hzlm.model.r_drop import CHUNK, divergence_loss
from hzlm.parallel.collectives import enter
from hzlm.parallel.mesh import Axis, make_mesh


def test_it_is_the_symmetric_divergence_of_the_two_passes() -> None:
    generator = torch.Generator().manual_seed(0)
    length = CHUNK // 2 + 10
    states = torch.randn(6, length, 4, dtype=torch.float64, generator=generator).requires_grad_()
    table = torch.randn(9, 4, dtype=torch.float64, generator=generator).requires_grad_()
    weights = torch.rand(3, length, dtype=torch.float64, generator=generator).repeat_interleave(2, 0)
    weights[:, ::3] = 0.0
    loss = divergence_loss(states, table, weights, Axis())
    first, second = ((states[start::2] @ table.T).log_softmax(-1) for start in (0, 1))
    both = functional.kl_div(first, second, reduction="none", log_target=True)
    both = both + functional.kl_div(second, first, reduction="none", log_target=True)
    expected = (both.sum(-1) * 0.5 * (weights[::2] + weights[1::2])).sum()
    torch.testing.assert_close(loss, expected)
    assert loss > 0.1
    found = torch.autograd.grad(loss, (states, table))
    for ours, theirs in zip(found, torch.autograd.grad(expected, (states, table)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_equal_passes_have_none() -> None:
    states = torch.randn(1, 5, 4).repeat_interleave(2, 0)
    assert divergence_loss(states, torch.randn(9, 4), torch.ones(2, 5), Axis()) == 0


def divide_classes(ranks: int) -> tuple[float, list[float], list[list[float]]]:
    """On a tensor-parallel rank: the loss, the whole gradient of the states, and that of its classes."""
    distributed.init_process_group("gloo")
    try:
        mesh = make_mesh(1, 1, ranks, False, torch.device("cpu"))
        states, table, weights = draw()
        own = table.detach()[slice(*((0, 4) if mesh.tensor.index == 0 else (4, 9)))].requires_grad_()
        loss = divergence_loss(enter(states, mesh), own, weights, mesh.tensor)
        loss.backward()
        assert states.grad is not None
        assert own.grad is not None
        return loss.item(), states.grad.flatten().tolist(), own.grad.tolist()
    finally:
        distributed.destroy_process_group()


def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(4, 3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    table = torch.randn(9, 4, dtype=torch.float64, generator=generator).requires_grad_()
    return states, table, torch.rand(2, 3, dtype=torch.float64, generator=generator).repeat_interleave(2, 0)


def test_ranks_with_parts_of_the_classes_find_the_same() -> None:
    states, table, weights = draw()
    loss = divergence_loss(states, table, weights, Axis())
    loss.backward()
    found = run_ranks(divide_classes, 2, 2)
    for value, of_states, _ in found:
        assert value == pytest.approx(loss.item(), rel=1e-12)
        assert states.grad is not None
        assert of_states == pytest.approx(states.grad.flatten().tolist(), rel=1e-9)
    assert table.grad is not None
    torch.testing.assert_close(torch.tensor([*found[0][2], *found[1][2]], dtype=torch.float64), table.grad)
