"""Cross entropy of logits on the torch path against its definition in float64."""

import pytest
import torch
from class_shards import run_on_shards
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import spread
from torch import Tensor

from hzlm.kernels.cross_entropy import ClassShard, CrossEntropy, cross_entropy, cross_entropy_reference


def draw(positions: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3.0 * torch.randn(positions, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, classes, (positions,), generator=generator)
    weights = torch.rand(positions, generator=generator, dtype=torch.float64)
    return logits, targets, weights * (weights > 0.2)


def expect(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float) -> tuple[CrossEntropy, Tensor]:
    """By the definition, with autograd's gradient."""
    leaf = logits.detach().requires_grad_()
    found = cross_entropy_reference(leaf, targets, weights, smoothing)
    return CrossEntropy(found.loss.detach(), found.correct), torch.autograd.grad(found.loss, leaf)[0]


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.integers(0, 40),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([1.0, 300.0]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_equals_the_definition_whole_and_on_shards(
    sizes: list[int], positions: int, smoothing: float, factor: float, whole: bool, seed: int
) -> None:
    """With logits of 300 and more, whole ranks have probabilities that are 0 in float64."""
    logits, targets, weights = draw(positions, sum(sizes), seed)
    logits *= factor

    def run(shard: ClassShard | None) -> tuple[CrossEntropy, Tensor]:
        start, rows = (0, sum(sizes)) if shard is None else (shard.start, sizes[starts.index(shard.start)])
        own = spread(logits[:, start : start + rows])
        return cross_entropy(own, targets, weights, smoothing, shard), own

    starts = [sum(sizes[:rank]) for rank in range(len(sizes))]
    outcomes = [run(None)] if whole else run_on_shards(sizes, run)
    expected, gradient = expect(logits, targets, weights, smoothing)
    for found, _ in outcomes:
        torch.testing.assert_close(found.loss, expected.loss, rtol=1e-11, atol=1e-11)
        assert torch.equal(found.loss, outcomes[0][0].loss)
        assert torch.equal(found.correct, expected.correct)
    torch.testing.assert_close(torch.cat([own for _, own in outcomes], dim=1), gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2**-10), (torch.bfloat16, 2**-8)]
)
def test_low_precision_only_rounds_the_gradient(dtype: torch.dtype, tolerance: float) -> None:
    """fp16 keeps 11 bits and bf16 8; fp32 sums 50 powers with 24."""
    logits, targets, weights = draw(30, 50)
    low = logits.to(dtype)
    expected, gradient = expect(low.double(), targets, weights.float().double(), 0.1)
    loss, correct = cross_entropy(low, targets, weights.float(), 0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    assert torch.equal(correct, expected.correct)
    torch.testing.assert_close(low.double(), gradient, rtol=tolerance, atol=1e-7)


def test_without_gradient_the_logits_stay() -> None:
    logits, targets, weights = draw(9, 7)
    kept = logits.clone()
    found = cross_entropy(logits, targets, weights, 0.1, gradient=False)
    assert torch.equal(logits, kept)
    assert found.loss == cross_entropy(logits, targets, weights, 0.1).loss
    assert not torch.equal(logits, kept)
