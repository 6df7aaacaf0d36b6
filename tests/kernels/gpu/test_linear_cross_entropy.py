"""Fused projection and cross entropy with the Triton kernels, interpreted, against its definition in float64."""

from itertools import accumulate
from typing import Any

import pytest
import torch
from class_shards import run_on_shards
from interpreter import spread, watch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from hzlm.kernels.cross_entropy import ClassShard
from hzlm.kernels.gpu import linear_cross_entropy as kernel
from hzlm.kernels.linear_cross_entropy import linear_cross_entropy_reference
from hzlm.tools.bench.kernels.linear_cross_entropy import cost, product_cost

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
Outcome = tuple[Tensor, Tensor, Tensor, Tensor]
# of norms; logits and gradients are rounded to the dtype on the way: bf16 keeps 8 bits (2^-8 = 0.4 %), which the
# interpreter cuts off rather than rounds, fp16 11
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "POSITIONS_AT_ONCE", 4)


def draw(positions: int, classes: int, dtype: torch.dtype, width: int = 8) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(positions, width, generator=generator).to(dtype)
    table = torch.randn(classes, width, generator=generator).to(dtype)
    targets = torch.randint(0, classes, (positions,), generator=generator)
    weights = torch.rand(positions, generator=generator)
    return hidden.requires_grad_(), table.requires_grad_(), targets, weights * (weights > 0.2)


def run(hidden: Tensor, table: Tensor, *others: Any) -> Outcome:
    """Loss, correct, and the gradients of 3 x loss."""
    with watch():
        loss, correct = kernel.linear_cross_entropy(hidden, table, *others)
        of_hidden, of_table = torch.autograd.grad(3.0 * loss, (hidden, table))
    return loss.detach(), correct, of_hidden, of_table


def expect(hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, smoothing: float) -> Outcome:
    hidden, table = (tensor.detach().double().requires_grad_() for tensor in (hidden, table))
    loss, correct = linear_cross_entropy_reference(hidden, table, targets, weights.double(), smoothing)
    of_hidden, of_table = torch.autograd.grad(3.0 * loss, (hidden, table))
    return loss.detach(), correct, of_hidden, of_table


def check(found: Outcome, expected: Outcome) -> None:
    tolerance = TOLERANCES[found[2].dtype]
    assert found[0].dtype == torch.float32
    assert found[0].item() == pytest.approx(expected[0].item(), rel=tolerance, abs=1e-6)
    # of logits that are nearly equal the rounded ones may name another best
    if found[2].dtype == torch.float32:
        assert torch.equal(found[1], expected[1])
    for ours, theirs in zip(found[2:], expected[2:], strict=True):
        assert (ours.double() - theirs).norm() <= tolerance * theirs.norm()


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize(("positions", "classes"), [(0, 3), (1, 1), (4, 13), (9, 64), (9, 67), (3, 1031)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_the_definition(positions: int, classes: int, dtype: torch.dtype, smoothing: float) -> None:
    """In chunks of 4 positions."""
    hidden, table, targets, weights = draw(positions, classes, dtype)
    check(run(hidden, table, targets, weights, smoothing), expect(hidden, table, targets, weights, smoothing))


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("sizes", [(50,), (1, 20, 29), (33, 17)])
def test_shards_equal_the_whole_table(sizes: tuple[int, ...], dtype: torch.dtype) -> None:
    hidden, table, targets, weights = draw(6, 50, dtype)
    rows = dict(zip(accumulate(sizes[:-1], initial=0), sizes, strict=True))

    def score(shard: ClassShard) -> Outcome:
        own = table.detach().narrow(0, shard.start, rows[shard.start]).requires_grad_()
        return run(hidden, own, targets, weights, 0.1, shard)

    outcomes = run_on_shards(sizes, score)
    loss, correct, *_ = outcomes[0]
    for outcome in outcomes:
        assert torch.equal(outcome[0], loss)
        assert torch.equal(outcome[1], correct)
    hidden_gradient = torch.stack([outcome[2] for outcome in outcomes]).sum(0)
    table_gradient = torch.cat([outcome[3] for outcome in outcomes])
    check((loss, correct, hidden_gradient, table_gradient), expect(hidden, table, targets, weights, 0.1))


def test_rows_with_gaps_and_labels_with_strides() -> None:
    hidden, table, targets, weights = draw(5, 20, torch.float32)
    scattered = (
        spread(hidden.detach()).requires_grad_(),
        spread(table.detach()).requires_grad_(),
        torch.stack([targets, -targets], dim=1)[:, 0],
        torch.stack([weights, -weights], dim=1)[:, 0],
    )
    for ours, theirs in zip(run(*scattered, 0.1), run(hidden, table, targets, weights, 0.1), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_large_logits_stay_finite() -> None:
    hidden, table, targets, weights = draw(3, 20, torch.float32)
    hidden = (hidden.detach() * 1e3).requires_grad_()
    check(run(hidden, table, targets, weights, 0.0), expect(hidden, table, targets, weights, 0.0))


def test_two_runs_give_the_same_bits() -> None:
    inputs = draw(9, 100, torch.bfloat16)
    for first, second in zip(run(*inputs, 0.1), run(*inputs, 0.1), strict=True):
        assert torch.equal(first, second)


def test_never_holds_the_logits_of_more_than_a_chunk() -> None:
    sizes: list[int] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **kwargs or {})
            sizes.extend(x.numel() for x in pytree.tree_leaves(made) if isinstance(x, Tensor))
            return made

    hidden, table, targets, weights = draw(40, 100, torch.float32)
    with Recorder():
        torch.autograd.grad(kernel.linear_cross_entropy(hidden, table, targets, weights).loss, (hidden, table))
    # the largest is the buffer of 4 positions by 100 classes and a gap, as the bytes that the interpreter takes it for
    assert max(sizes) == 4 * 128 * 4 < 40 * 100


@pytest.mark.parametrize("gradient", [False, True])
def test_the_kernels_move_what_the_formula_says(gradient: bool) -> None:
    """Torch's products are not watched."""
    hidden, table, targets, weights = draw(10, 100, torch.bfloat16)
    with watch() as traffic, torch.set_grad_enabled(gradient):
        kernel.linear_cross_entropy(hidden, table, targets, weights)
    whole, products = cost(10, 100, 8, 2, gradient), product_cost(10, 100, 8, 2, gradient)
    assert traffic.launches == 3
    assert (traffic.read, traffic.written) == (whole.read - products.read, whole.written - products.written)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hidden": torch.zeros(4, 8, dtype=torch.float64)}, "hidden is torch.float64"),
        ({"table": torch.zeros(9, 7)}, "table has shape"),
        ({"table": torch.zeros(0, 8)}, "table has shape"),
        ({"table": torch.zeros(9, 8, dtype=torch.float16)}, "table is torch.float16"),
        ({"targets": torch.zeros(4, dtype=torch.int32)}, "targets is torch.int32"),
        ({"weights": torch.zeros(5)}, "weights has shape"),
        ({"smoothing": -0.1}, "smoothing is -0.1"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(change: dict[str, Any], named: str) -> None:
    arguments: dict[str, Any] = {
        "hidden": torch.zeros(4, 8), "table": torch.zeros(9, 8), "targets": torch.zeros(4, dtype=torch.int64),
        "weights": torch.zeros(4),
    }  # fmt: skip
    with pytest.raises(ValueError, match=named):
        kernel.linear_cross_entropy(**arguments | change)
