"""Which classes a rank has, and the cross entropy over real processes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, distributed
from torch.nn import functional

from hzlm.kernels.linear_cross_entropy import linear_cross_entropy
from hzlm.launch.processes import run_ranks
from hzlm.parallel.collectives import all_reduce
from hzlm.parallel.cross_entropy import class_shard
from hzlm.parallel.mesh import Axis, Mesh, make_mesh
from hzlm.parallel.vocabulary import divide_table

TARGET_START, CLASSES = 5, 20


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 8))
def test_the_ranks_have_all_classes_in_order(classes: int, target_start: int, ranks: int) -> None:
    owned: list[int] = []
    for index in range(ranks):
        mesh = Mesh(tensor=Axis(ranks, index))
        sharding = divide_table(target_start + classes, target_start, 4, mesh.tensor)
        shard = class_shard(classes, mesh)
        assert (shard is None) == (ranks == 1)
        start = 0 if shard is None else shard.start
        assert shard is None or shard.classes == classes
        owned += range(start, start + sharding.pieces[1][1])
    assert owned == list(range(classes))


def draw() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(600, 8, generator=generator, dtype=torch.float64)
    table = torch.randn(TARGET_START + CLASSES, 8, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, CLASSES, (600,), generator=generator)
    return hidden, table, targets, torch.rand(600, generator=generator, dtype=torch.float64)


def score_as_rank() -> tuple[float, list[bool], list[list[float]], list[list[float]]]:
    """Loss, correct, and the gradients by hidden, summed over the ranks, and by this rank's classes."""
    distributed.init_process_group("gloo")
    try:
        mesh = make_mesh(1, 1, distributed.get_world_size(), False, torch.device("cpu"))
        hidden, table, targets, weights = draw()
        sharding = divide_table(len(table), TARGET_START, 8, mesh.tensor)
        own = sharding.take(table)[sharding.pieces[0][1] :].requires_grad_()
        shard = class_shard(CLASSES, mesh)
        loss, correct = linear_cross_entropy(hidden.requires_grad_(), own, targets, weights, 0.1, shard)
        hidden_gradient, table_gradient = torch.autograd.grad(loss, (hidden, own))
        return loss.item(), correct.tolist(), all_reduce(hidden_gradient, mesh.tensor).tolist(), table_gradient.tolist()
    finally:
        distributed.destroy_process_group()


def test_processes_equal_the_whole_table() -> None:
    """Three ranks share 20 classes as 6, 7 and 7."""
    hidden, table, targets, weights = draw()
    hidden.requires_grad_()
    table.requires_grad_()
    logits = hidden @ table[TARGET_START:].T
    losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=0.1)
    expected = (losses * weights).sum()
    wanted = torch.autograd.grad(expected, (hidden, table))
    found = run_ranks(score_as_rank, 3)
    assert [len(outcome[3]) for outcome in found] == [6, 7, 7]
    for loss, correct, hidden_gradient, _ in found:
        assert loss == found[0][0] == pytest.approx(expected.item(), rel=1e-12)
        assert correct == (logits.argmax(1) == targets).tolist()
        gradient = torch.tensor(hidden_gradient, dtype=torch.float64)
        torch.testing.assert_close(gradient, wanted[0], rtol=1e-10, atol=1e-12)
    rows = torch.cat([torch.tensor(outcome[3], dtype=torch.float64) for outcome in found])
    torch.testing.assert_close(rows, wanted[1][TARGET_START:], rtol=1e-10, atol=1e-12)
