"""Cross entropy of logits in Triton, interpreted, against its definition in float64."""

from itertools import accumulate
from typing import Any

import pytest
import torch
from class_shards import run_on_shards
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import spread, watch
from torch import Tensor

from hzlm.kernels import cross_entropy as torch_path
from hzlm.kernels.cross_entropy import ClassShard, CrossEntropy, cross_entropy_reference
from hzlm.kernels.gpu import cross_entropy as kernel
from hzlm.tools.bench.kernels.cross_entropy import cost, shard_cost

# the gradient is rounded to the dtype once: fp16 keeps 11 bits, bf16 8, which the interpreter cuts off rather than
# rounds; fp32 sums thousands of powers with 24
# (where a probability is nearly 1, that of its target is exact only to the rounding of the probability)
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}
DTYPES = list(TOLERANCES)
ROUNDING = 5e-7


def draw(positions: int, classes: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = (3.0 * torch.randn(positions, classes, generator=generator)).to(dtype)
    targets = torch.randint(0, classes, (positions,), generator=generator)
    weights = torch.rand(positions, generator=generator)
    return logits, targets, weights * (weights > 0.2)


def expect(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float) -> tuple[CrossEntropy, Tensor]:
    """By the definition in float64, with autograd's gradient."""
    leaf = logits.double().requires_grad_()
    found = cross_entropy_reference(leaf, targets, weights.double(), smoothing)
    return CrossEntropy(found.loss.detach(), found.correct), torch.autograd.grad(found.loss, leaf)[0]


def check(found: CrossEntropy, ours: Tensor, expected: CrossEntropy, gradient: Tensor) -> None:
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss.double(), expected.loss, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.correct, expected.correct)
    torch.testing.assert_close(ours.double(), gradient, rtol=TOLERANCES[ours.dtype], atol=ROUNDING)


# 1; fewer than the last block has, as many, more; a block, one less, one more; two blocks of a long row and a rest
@pytest.mark.parametrize("classes", [1, 2, 15, 16, 17, 1009, 1023, 1024, 1025, 8192, 8192 + 17, 12301])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_definition(classes: int, dtype: torch.dtype) -> None:
    logits, targets, weights = draw(3, classes, dtype)
    # the target is the best class, in the last block; and a class of the first
    logits[0, targets[0]] = 20.0
    targets[1] = classes - 1
    logits[1, -1] = 20.0
    for smoothing in (0.0, 0.1):
        ours = spread(logits)
        with watch():
            found = kernel.cross_entropy(ours, targets, weights, smoothing)
        check(found, ours, *expect(logits, targets, weights, smoothing))
        assert found.correct[:2].all()


def score_on_shards(
    sizes: list[int], logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float, kernel: Any
) -> list[tuple[CrossEntropy, Tensor]]:
    rows = dict(zip(accumulate(sizes[:-1], initial=0), sizes, strict=True))

    def run(shard: ClassShard) -> tuple[CrossEntropy, Tensor]:
        own = spread(logits[:, shard.start : shard.start + rows[shard.start]])
        with watch():
            return kernel.cross_entropy(own, targets, weights, smoothing, shard), own

    return run_on_shards(sizes, run)


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from(DTYPES),
    st.integers(0, 2**31),
)
def test_shards_equal_the_whole(
    sizes: list[int], positions: int, smoothing: float, dtype: torch.dtype, seed: int
) -> None:
    logits, targets, weights = draw(positions, sum(sizes), dtype, seed)
    outcomes = score_on_shards(sizes, logits, targets, weights, smoothing, kernel)
    gradient = torch.cat([ours for _, ours in outcomes], dim=1)
    for found, _ in outcomes:
        check(found, gradient, *expect(logits, targets, weights, smoothing))
        assert torch.equal(found.loss, outcomes[0][0].loss)


def test_long_shards_equal_those_of_the_torch_path() -> None:
    """One in a block and a rest, one in two blocks and a rest."""
    sizes = [8192 + 3, 1030]
    logits, targets, weights = draw(2, sum(sizes), torch.float32)
    targets[:] = torch.tensor([8194, 8195])
    theirs = score_on_shards(sizes, logits, targets, weights, 0.1, torch_path)
    for (found, ours), (wanted, gradient) in zip(
        score_on_shards(sizes, logits, targets, weights, 0.1, kernel), theirs, strict=True
    ):
        check(found, ours, CrossEntropy(wanted.loss.double(), wanted.correct), gradient.double())


@pytest.mark.parametrize("sizes", [[40], [17, 23]])
def test_of_equal_logits_the_first_is_the_best(sizes: list[int]) -> None:
    """Of logits 0 and 1, over the border between the blocks, and between the ranks."""
    generator = torch.Generator().manual_seed(1)
    logits = (torch.rand(40, sum(sizes), generator=generator) < 0.05).float()
    targets = logits.argmax(dim=1)
    targets[::2] = torch.randint(0, sum(sizes), (20,), generator=generator)
    weights = torch.ones(40)
    outcomes = [(kernel.cross_entropy(logits.clone(), targets, weights), logits)] if len(sizes) == 1 else (
        score_on_shards(sizes, logits, targets, weights, 0.0, kernel)
    )  # fmt: skip
    for found, _ in outcomes:
        assert torch.equal(found.correct, logits.argmax(dim=1) == targets)


@pytest.mark.parametrize("shift", [-3e4, 3e4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_logits_keep_a_small_loss(shift: float, smoothing: float) -> None:
    """Of logits near 30,000 the loss is exact to the rounding of its own terms, not to that of 30,000."""
    logits, targets, weights = draw(3, 37, torch.float32)
    logits = logits + shift
    ours = logits.clone()
    found = kernel.cross_entropy(ours, targets, weights, smoothing)
    # the sum of the logits for smoothing is rounded at 37 * 30,000
    expected, gradient = expect(logits, targets, weights, smoothing)
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-6 if smoothing == 0.0 else 1e-3)
    torch.testing.assert_close(ours.double(), gradient, rtol=1e-5, atol=ROUNDING)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[6e4, -6e4, 0.0], [-6e4, -6e4, -6e4]]).half()
    targets, weights = torch.tensor([1, 0]), torch.ones(2)
    ours = logits.clone()
    found = kernel.cross_entropy(ours, targets, weights)
    check(found, ours, *expect(logits, targets, weights, 0.0))


def test_masked_positions_count_nothing_and_no_class_spoils_the_loss() -> None:
    logits, targets, _ = draw(4, 33, torch.bfloat16)
    ours = logits.clone()
    assert kernel.cross_entropy(ours, targets, torch.zeros(4)).loss == 0.0
    assert torch.equal(ours, torch.zeros_like(ours))
    targets[2] = 33
    with watch():
        assert kernel.cross_entropy(logits, targets, torch.ones(4)).loss.isnan()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_infinite_and_nan_logits_are_seen_in_the_loss() -> None:
    for bad in (float("inf"), float("nan")):
        logits, targets, weights = draw(1, 40, torch.float32)
        logits[0, 5] = bad
        assert kernel.cross_entropy(logits, targets, weights + 1.0).loss.isnan()


def test_without_gradient_the_logits_stay() -> None:
    logits, targets, weights = draw(4, 50, torch.float32)
    kept = logits.clone()
    with watch() as traffic:
        loss = kernel.cross_entropy(logits, targets, weights, gradient=False).loss
    assert torch.equal(logits, kept)
    assert traffic.launches == 1
    assert loss == kernel.cross_entropy(logits, targets, weights).loss
    sharded = kernel.cross_entropy(kept, targets, weights, 0.1, ClassShard(0, 50, lambda x: x[None]), gradient=False)
    assert sharded.loss.isfinite()
    assert not torch.equal(kept, logits)


def test_two_runs_give_the_same_bits() -> None:
    logits, targets, weights = draw(4, 1030, torch.bfloat16)
    ours = [logits.clone(), logits.clone()]
    losses = [kernel.cross_entropy(run, targets, weights, 0.1).loss for run in ours]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(ours[0], ours[1])


@pytest.mark.parametrize("classes", [16, 1000, 1024, 8199, 9001])
@pytest.mark.parametrize("gradient", [False, True])
def test_moves_what_the_formula_says(classes: int, gradient: bool) -> None:
    logits, targets, weights = draw(3, classes, torch.bfloat16)
    with watch() as traffic:
        kernel.cross_entropy(logits, targets, weights, gradient=gradient)
    formula = cost(3, classes, 2, gradient)
    assert (traffic.read, traffic.written) == (formula.read, formula.written)
    assert formula.moved >= formula.least


@pytest.mark.parametrize(("smoothing", "numbers"), [(0.0, 4), (0.1, 5)])
def test_a_shard_moves_what_the_formula_says(smoothing: float, numbers: int) -> None:
    logits, targets, weights = draw(3, 1000, torch.bfloat16)
    with watch() as traffic:
        shard = ClassShard(0, 2000, lambda x: torch.stack([x, x]))
        kernel.cross_entropy(logits, targets, weights, smoothing, shard)
    formula = shard_cost(3, 1000, 2, numbers)
    assert (traffic.read, traffic.written) == (formula.read, formula.written)
    assert traffic.launches == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"logits": torch.zeros(4, 9, dtype=torch.float64)}, "logits is torch.float64"),
        ({"logits": torch.zeros(9)}, "logits has 1 dimensions"),
        ({"logits": torch.zeros(4, 0)}, "logits has shape"),
        ({"logits": torch.zeros(9, 4).T}, "logits has shape"),
        ({"logits": torch.zeros(1, 9).expand(4, 9)}, "logits has shape"),
        ({"targets": torch.zeros(4, dtype=torch.int32)}, "targets is torch.int32"),
        ({"targets": torch.zeros(3, dtype=torch.int64)}, "targets has shape"),
        ({"weights": torch.zeros(4, dtype=torch.float64)}, "weights is torch.float64"),
        ({"smoothing": 1.0}, "smoothing is 1.0"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(change: dict[str, Any], named: str) -> None:
    arguments: dict[str, Any] = {
        "logits": torch.zeros(4, 9), "targets": torch.zeros(4, dtype=torch.int64), "weights": torch.zeros(4)
    }  # fmt: skip
    with pytest.raises(ValueError, match=named):
        kernel.cross_entropy(**arguments | change)
