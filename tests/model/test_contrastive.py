"""The contrastive loss against its formula, sentence by sentence."""

import math

import pytest
import torch
from torch import Tensor

from hzlm.model.contrastive import contrastive_loss, pool_sentences
from hzlm.parallel.mesh import ALONE

TEMPERATURE = 0.2
# rows 2i and 2i + 1 hold the same sentences; 7 stands in two rows, a context in front of 5
SENTENCES = torch.tensor([[3, 3, 0, 7, 7, 0], [3, 3, 0, 7, 7, 0], [0, 5, 5, 7, 9, 0], [0, 5, 5, 7, 9, 0]])
SEGMENTS = torch.tensor([[1, 1, 0, 2, 2, 0], [1, 1, 0, 2, 2, 0], [1, 1, 1, 2, 3, 0], [1, 1, 1, 2, 3, 0]])
# (row, first place, end) of each sentence in the rows of first views
PLACES = ((0, 0, 2), (0, 3, 5), (2, 1, 3), (2, 3, 4), (2, 4, 5))
TEXTS = (3, 7, 5, 7, 9)


def draw_states() -> Tensor:
    return torch.randn(4, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_the_formula(states: Tensor) -> tuple[float, int]:
    """Loss and retrieved sentences, with Python's numbers."""
    views = [
        [[sum(column) / (end - start) for column in zip(*states[row + view, start:end].tolist(), strict=True)]
         for row, start, end in PLACES]
        for view in (0, 1)
    ]  # fmt: skip

    def similarity(x: list[float], y: list[float]) -> float:
        return sum(a * b for a, b in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))

    losses, found = [], 0
    for anchors, others in (views, views[::-1]):
        for i, anchor in enumerate(anchors):
            positive = math.exp(similarity(anchor, others[i]) / TEMPERATURE)
            negatives = [
                math.exp(similarity(anchor, other) / TEMPERATURE)
                for j, other in enumerate(others)
                if TEXTS[j] != TEXTS[i]
            ]
            losses.append(-math.log(positive / (positive + sum(negatives))))
            found += anchors is views[0] and positive > max(negatives)
    return sum(losses) / len(losses), found


def test_it_is_the_mean_over_all_sentences_of_both_directions() -> None:
    states = draw_states()
    contrast = contrastive_loss(states, SEGMENTS, SENTENCES, TEMPERATURE, ALONE)
    expected, retrieved = by_the_formula(states)
    assert contrast.loss.item() == pytest.approx(expected, rel=1e-12)
    assert contrast.total.item() == pytest.approx(expected * len(PLACES), rel=1e-12)
    assert (int(contrast.found), contrast.counted) == (retrieved, len(PLACES))
    assert 0 < retrieved < len(PLACES)


def test_its_gradient() -> None:
    states = draw_states().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: contrastive_loss(x, SEGMENTS, SENTENCES, TEMPERATURE, ALONE)[0], states, eps=1e-6
    )


def test_equal_views_are_always_found() -> None:
    states = draw_states()
    states[1::2] = states[::2]
    contrast = contrastive_loss(states, SEGMENTS, SENTENCES, TEMPERATURE, ALONE)
    assert int(contrast.found) == contrast.counted == len(PLACES)


def test_neighbours_with_one_text_are_two_sentences() -> None:
    states = draw_states()[:1, :4]
    segments, sentences = torch.tensor([[1, 1, 2, 2]]), torch.tensor([[7, 7, 7, 7]])
    vectors, numbers = pool_sentences(states, segments, sentences)
    assert numbers.tolist() == [7, 7]
    torch.testing.assert_close(vectors, torch.stack([states[0, :2].mean(0), states[0, 2:].mean(0)]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_rows_without_a_sentence_have_no_loss(dtype: torch.dtype) -> None:
    """Also where their states are so large that fp16 could not sum them up."""
    states = (1e4 * draw_states()).to(dtype).requires_grad_()
    contrast = contrastive_loss(states, 0 * SEGMENTS, 0 * SENTENCES, TEMPERATURE, ALONE)
    contrast.loss.backward()
    assert (contrast.loss.item(), int(contrast.found), contrast.counted) == (0.0, 0, 0)
    assert states.grad is not None
    assert not states.grad.any()
