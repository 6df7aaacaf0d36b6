"""Fused projection and cross entropy against torch's own cross entropy in float64."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from threading import Barrier

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hzlm.kernels import linear_cross_entropy as kernel


def draw(positions: int, classes: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(positions, 8, generator=generator, dtype=torch.float64)
    table = torch.randn(classes, 8, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, classes, (positions,), generator=generator)
    weights = torch.rand(positions, generator=generator, dtype=torch.float64)
    return hidden.requires_grad_(), table.requires_grad_(), targets, weights


Outcome = tuple[Tensor, Tensor, Tensor, Tensor]


def score_on_shards(
    sizes: Sequence[int], hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, smoothing: float
) -> tuple[list[Outcome], list[list[tuple[int, ...]]]]:
    """From each rank, which is a thread here: loss, correct, the gradients of 3 x loss by hidden and by its part of the
    table; and the shapes of what it gathered."""
    starts = list(accumulate(sizes[:-1], initial=0))
    barrier = Barrier(len(sizes), timeout=30.0)
    given: dict[int, Tensor] = {}
    sent: list[list[tuple[int, ...]]] = [[] for _ in sizes]

    def run(rank: int) -> Outcome:
        def gather(x: Tensor) -> Tensor:
            sent[rank].append(tuple(x.shape))
            given[rank] = x
            barrier.wait()
            gathered = torch.stack([given[other] for other in range(len(sizes))])
            barrier.wait()
            return gathered

        shard = kernel.ClassShard(starts[rank], sum(sizes), gather)
        whole = hidden.detach().requires_grad_()
        own = table.detach().narrow(0, starts[rank], sizes[rank]).requires_grad_()
        loss, correct = kernel.linear_cross_entropy(whole, own, targets, weights, smoothing, shard)
        hidden_gradient, table_gradient = torch.autograd.grad(3.0 * loss, (whole, own))
        return loss.detach(), correct, hidden_gradient, table_gradient

    with ThreadPoolExecutor(len(sizes)) as pool:
        return list(pool.map(run, range(len(sizes)))), sent


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1100), st.integers(2, 40), st.sampled_from([0.0, 0.1]), st.integers(0, 2**31), st.booleans())
def test_equals_torch(positions: int, classes: int, smoothing: float, seed: int, reference: bool) -> None:
    hidden, table, targets, weights = draw(positions, classes, seed)
    function = kernel.linear_cross_entropy_reference if reference else kernel.linear_cross_entropy
    loss, correct = function(hidden, table, targets, weights, smoothing)
    logits = hidden @ table.T
    losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    expected = (losses * weights).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(correct, logits.argmax(1) == targets)
    for ours, theirs in zip(
        torch.autograd.grad(3.0 * loss, (hidden, table)),
        torch.autograd.grad(3.0 * expected, (hidden, table)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_low_precision_stays_near_float64(dtype: torch.dtype, tolerance: float) -> None:
    """bfloat16 keeps 8 bits (2^-8 = 0.4 %); gradients sum two such roundings."""
    hidden, table, targets, weights = draw(700, 50, seed=5)
    expected = kernel.linear_cross_entropy_reference(hidden, table, targets, weights, 0.1).loss
    wide = torch.autograd.grad(expected, (hidden, table))
    low_hidden, low_table = (tensor.detach().to(dtype).requires_grad_() for tensor in (hidden, table))
    loss = kernel.linear_cross_entropy(low_hidden, low_table, targets, weights.float(), 0.1).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    for ours, theirs in zip(torch.autograd.grad(loss, (low_hidden, low_table)), wide, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).norm() < tolerance * theirs.norm()


def test_without_gradient_only_the_logits_are_computed() -> None:
    hidden, table, targets, weights = draw(20, 9, seed=1)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        loss = kernel.linear_cross_entropy(hidden, table, targets, weights).loss
    assert not loss.requires_grad
    assert counted.get_total_flops() == 2 * hidden.shape[0] * hidden.shape[1] * table.shape[0]
    assert loss.item() == pytest.approx(
        kernel.linear_cross_entropy_reference(hidden, table, targets, weights).loss.item()
    )


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.integers(0, 1100),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([1.0, 300.0]),
    st.integers(0, 2**31),
)
def test_shards_equal_the_whole_table(
    sizes: list[int], positions: int, smoothing: float, spread: float, seed: int
) -> None:
    """With a spread of 300 the classes of whole ranks have probabilities that are 0 in float64."""
    hidden, table, targets, weights = draw(positions, sum(sizes), seed)
    table = (spread * table.detach()).requires_grad_()
    outcomes, _ = score_on_shards(sizes, hidden, table, targets, weights, smoothing)
    logits = hidden @ table.T
    losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    expected = (losses * weights).sum()
    hidden_gradient, table_gradient = torch.autograd.grad(3.0 * expected, (hidden, table))
    for loss, correct, _, _ in outcomes:
        assert torch.equal(loss, outcomes[0][0])
        assert torch.equal(correct, logits.argmax(1) == targets)
    torch.testing.assert_close(outcomes[0][0], expected.detach(), rtol=1e-11, atol=1e-11)
    gradients = (
        torch.stack([outcome[2] for outcome in outcomes]).sum(0),
        torch.cat([outcome[3] for outcome in outcomes]),
    )
    for ours, theirs in zip(gradients, (hidden_gradient, table_gradient), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11 * spread)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 2**31))
def test_of_equal_logits_the_lowest_class_is_the_best_on_shards_too(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden, table = (torch.randint(0, 2, (rows, 3), generator=generator).float() for rows in (200, sum(sizes)))
    targets = torch.randint(0, sum(sizes), (200,), generator=generator)
    lowest = [row.index(max(row)) for row in (hidden @ table.T).tolist()]
    for _, correct, _, _ in score_on_shards(sizes, hidden, table, targets, torch.ones(200), 0.0)[0]:
        assert correct.tolist() == [best == target for best, target in zip(lowest, targets.tolist(), strict=True)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("sizes", [(50,), (25, 25), (1, 20, 29), (12, 13, 12, 13)])
def test_low_precision_on_shards_stays_near_float64(
    sizes: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    hidden, table, targets, weights = draw(700, 50, seed=5)
    expected = kernel.linear_cross_entropy_reference(hidden, table, targets, weights, 0.1).loss
    wide = torch.autograd.grad(3.0 * expected, (hidden, table))
    outcomes, _ = score_on_shards(sizes, hidden.to(dtype), table.to(dtype), targets, weights.float(), 0.1)
    for loss, correct, *gradients in outcomes:
        assert loss.dtype == torch.float32
        assert all(gradient.dtype == dtype for gradient in gradients)
        assert torch.equal(loss, outcomes[0][0])
        assert torch.equal(correct, outcomes[0][1])
    assert outcomes[0][0].item() == pytest.approx(expected.item(), rel=tolerance)
    ours = torch.stack([outcome[2] for outcome in outcomes]).sum(0), torch.cat([outcome[3] for outcome in outcomes])
    for gradient, theirs in zip(ours, wide, strict=True):
        assert (gradient.double() - theirs).norm() < tolerance * theirs.norm()


@pytest.mark.parametrize(("smoothing", "numbers"), [(0.0, 4), (0.1, 5)])
def test_shards_tell_each_other_a_few_numbers_a_position(smoothing: float, numbers: int) -> None:
    hidden, table, targets, weights = draw(1100, 9, seed=1)
    _, sent = score_on_shards((5, 4), hidden, table, targets, weights, smoothing)
    assert sent == [[(numbers, 512, 1), (numbers, 512, 1), (numbers, 76, 1)]] * 2


def test_fp16_gradients_have_room_for_small_weights_and_large_loss_scales() -> None:
    """A weight is one over the targets of a step, and the gradient of the loss is fp16's loss scale."""
    generator = torch.Generator().manual_seed(2)
    hidden, table = (torch.randn(size, 32, generator=generator).half() for size in (64, 100))
    targets = torch.randint(0, 100, (64,), generator=generator)
    weights = torch.full((64,), 1 / 16000)
    found, expected = [], []
    for function, dtype, results in (
        (kernel.linear_cross_entropy, torch.float16, found),
        (kernel.linear_cross_entropy_reference, torch.float64, expected),
    ):
        inputs = [tensor.to(dtype).requires_grad_() for tensor in (hidden, table)]
        loss = function(*inputs, targets, weights.to(dtype if dtype == torch.float64 else torch.float32)).loss
        results += torch.autograd.grad(loss * 2.0**17, inputs)
    for ours, theirs in zip(found, expected, strict=True):
        assert ((ours.double() - theirs).abs().max() / theirs.abs().max()).item() < 2e-3
