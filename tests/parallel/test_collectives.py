"""What ranks tell each other, forward and backward, against values that are worked out by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from hzlm.launch.processes import run_ranks
from hzlm.parallel.collectives import (
    all_gather,
    all_reduce,
    enter,
    gather_objects,
    highest,
    leave,
    own_rows,
    total,
)
from hzlm.parallel.mesh import ALONE, Axis, make_mesh

CPU = torch.device("cpu")
ROWS = 6


def draw(rank: int, rows: int = ROWS) -> Tensor:
    """Other small integers for each rank, so that sums are exact; not contiguous."""
    return (torch.arange(2.0 * rows).view(2, rows) ** 2 + 100.0 * (rank + 1) ** 2).T


def pull(rank: int, rows: int = ROWS) -> Tensor:
    """The gradient that comes back to a rank; not contiguous."""
    return draw(rank, rows).flip(0) * 0.5


def differentiate(function: Any, x: Tensor, *others: Any, gradient: Tensor) -> tuple[list[Any], list[Any]]:
    """function(x, ...) and the gradient of x."""
    x = x.clone().requires_grad_()
    y = function(x, *others)
    (found,) = torch.autograd.grad(y, x, gradient)
    return y.tolist(), found.tolist()


def talk() -> dict[str, Any]:
    """All of them on one rank; of the tensors of each rank, one has other numbers than any other."""
    distributed.init_process_group("gloo")
    try:
        rank, ranks = distributed.get_rank(), distributed.get_world_size()
        whole = make_mesh(1, 1, ranks, False, CPU)
        split = make_mesh(1, 1, ranks, True, CPU)
        own = ROWS // ranks
        reduced = draw(rank)
        again = all_reduce(reduced, whole.tensor)
        return {
            "enter": differentiate(enter, draw(rank), whole, gradient=pull(rank)),
            "enter split": differentiate(enter, draw(rank, own), split, gradient=pull(rank)),
            # what follows is the same on all ranks, and so is its gradient
            "leave": differentiate(leave, draw(rank), whole, gradient=pull(7)),
            "leave split": differentiate(leave, draw(rank), split, gradient=pull(rank, own)),
            "own": differentiate(own_rows, draw(rank), whole, gradient=pull(rank)),
            "own split": differentiate(own_rows, draw(rank), split, gradient=pull(rank, own)),
            "gathered": all_gather(draw(rank), whole.tensor).tolist(),
            "reduced": reduced.tolist(),
            "reduced in place": again is reduced,
            "total": total([rank + 0.25, 2.0**40 if rank == 0 else 1.0], whole.tensor, CPU),
            "highest": highest([5, -(2**40), 2**40][rank], whole.tensor, CPU),
            "objects": gather_objects({"rank": rank}, whole.tensor),
        }
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def told(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return run_ranks(talk, request.param)


def test_enter_and_leave_are_identity_and_sum(told: list[dict[str, Any]]) -> None:
    """Entering: every rank goes on with what it has, and the gradients are summed; leaving the other way round."""
    ranks = range(len(told))
    for rank in ranks:
        assert told[rank]["enter"] == (draw(rank).tolist(), sum(pull(other) for other in ranks).tolist())
        assert told[rank]["leave"] == (sum(draw(other) for other in ranks).tolist(), pull(7).tolist())


def test_split_rows_are_gathered_and_summed(told: list[dict[str, Any]]) -> None:
    """Entering: the rows of all ranks, and of the summed gradients those of its own; leaving the other way round."""
    ranks = range(len(told))
    own = ROWS // len(told)
    for rank in ranks:
        mine = slice(rank * own, (rank + 1) * own)
        forward, backward = told[rank]["enter split"]
        assert forward == torch.cat([draw(other, own) for other in ranks]).tolist()
        assert backward == sum(pull(other) for other in ranks)[mine].tolist()
        forward, backward = told[rank]["leave split"]
        assert forward == sum(draw(other) for other in ranks)[mine].tolist()
        assert backward == torch.cat([pull(other, own) for other in ranks]).tolist()


def test_own_rows_are_a_part_only_where_rows_are_split(told: list[dict[str, Any]]) -> None:
    own = ROWS // len(told)
    for rank, found in enumerate(told):
        assert found["own"] == (draw(rank).tolist(), pull(rank).tolist())
        forward, backward = found["own split"]
        start = rank * own
        assert forward == draw(rank)[start : start + own].tolist()
        expected = torch.zeros(ROWS, 2)
        expected[start : start + own] = pull(rank, own)
        assert backward == expected.tolist()


def test_every_rank_learns_what_all_ranks_have(told: list[dict[str, Any]]) -> None:
    ranks = len(told)
    for found in told:
        assert found["gathered"] == [draw(rank).tolist() for rank in range(ranks)]
        assert found["reduced"] == sum(draw(rank) for rank in range(ranks)).tolist()
        assert found["reduced in place"]
        # float32 would lose the ones
        assert found["total"] == [sum(range(ranks)) + 0.25 * ranks, 2.0**40 + (ranks - 1)]
        assert found["highest"] == (2**40 if ranks == 3 else 5)
        assert found["objects"] == [{"rank": rank} for rank in range(ranks)]


def test_a_rank_alone_gets_back_what_it_has() -> None:
    x = draw(0)
    assert enter(x, ALONE) is x
    assert leave(x, ALONE) is x
    assert own_rows(x, ALONE) is x
    assert all_reduce(x, Axis()) is x
    assert torch.equal(all_gather(x, Axis()), x[None])
    assert total([0.5, 3.0], Axis(), CPU) == [0.5, 3.0]
    assert highest(-3, Axis(), CPU) == -3
    assert gather_objects("own", Axis()) == ["own"]
