"""LAMB against algorithm 2 of the paper, written out in float64."""

import numpy as np
import pytest
import torch

from hzlm.train.lamb import Fragment, Lamb


class PaperLamb:
    """You et al. 2019, algorithm 2, for one tensor, with bias correction and phi the identity."""

    def __init__(self, x: np.ndarray, decay: float, trust: bool):
        self.x, self.decay, self.trust = x.astype(np.float64), decay, trust
        self.m = np.zeros_like(self.x)
        self.v = np.zeros_like(self.x)
        self.t = 0

    def step(self, g: np.ndarray, lr: float, beta1: float, beta2: float, eps: float) -> None:
        self.t += 1
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2
        r = (self.m / (1 - beta1**self.t)) / (np.sqrt(self.v / (1 - beta2**self.t)) + eps)
        u = r + self.decay * self.x
        norms = np.linalg.norm(self.x), np.linalg.norm(u)
        ratio = norms[0] / norms[1] if self.trust and min(norms) > 0 else 1.0
        self.x = self.x - lr * ratio * u


@pytest.mark.parametrize(("decay", "trust"), [(0.01, True), (0.0, True), (0.0, False), (0.1, False)])
@pytest.mark.parametrize("flat", [False, True])
def test_steps_equal_the_paper(decay: float, trust: bool, flat: bool) -> None:
    generator = np.random.default_rng(0)
    shapes = [(7, 5), (3,), (4, 4)]
    starts = [generator.normal(size=shape).astype(np.float32) for shape in shapes]
    paper = [PaperLamb(start, decay, trust) for start in starts]
    if flat:  # as ZeRO hands it over: all tensors one after the other, with a gap that belongs to none
        sizes = [start.size for start in starts]
        offsets = [0, sizes[0], sizes[0] + sizes[1] + 2]
        whole = torch.zeros(sum(sizes) + 4)
        fragments = [Fragment(offset, size) for offset, size in zip(offsets, sizes, strict=True)]
        parameters = [torch.nn.Parameter(whole)]
        views = [fragment.of(whole) for fragment in fragments]
        for view, start in zip(views, starts, strict=True):
            view.copy_(torch.from_numpy(start).flatten())
    else:
        parameters = [torch.nn.Parameter(torch.from_numpy(start.copy())) for start in starts]
        views = [parameter.data.view(-1) for parameter in parameters]
    lamb = Lamb([{"params": parameters, "weight_decay": decay, "trust": trust}], betas=(0.9, 0.99), eps=1e-6)
    if flat:
        lamb.set_fragments(parameters[0], fragments)
    for number in range(5):
        gradients = [generator.normal(size=shape) for shape in shapes]
        rate = 0.01 * (number + 1)
        lamb.param_groups[0]["lr"] = rate
        if flat:
            parameters[0].grad = torch.ones_like(whole)
            for fragment, gradient in zip(fragments, gradients, strict=True):
                fragment.of(parameters[0].grad).copy_(torch.from_numpy(gradient).flatten())
        else:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = torch.from_numpy(gradient).float()
        lamb.step()
        for reference, gradient in zip(paper, gradients, strict=True):
            reference.step(gradient.astype(np.float32).astype(np.float64), rate, 0.9, 0.99, 1e-6)
        for view, reference in zip(views, paper, strict=True):
            expected = reference.x.flatten()
            assert np.linalg.norm(view.numpy() - expected) <= 1e-6 * np.linalg.norm(expected)
    assert lamb.steps == 5
    if flat:
        gap = whole[offsets[0] + sizes[0] + sizes[1] : offsets[2]]
        assert not gap.any(), "what belongs to no tensor is left alone"


def test_trust_ratio_is_one_for_a_tensor_of_zeros() -> None:
    parameter = torch.nn.Parameter(torch.zeros(4))
    lamb = Lamb([{"params": [parameter]}], lr=0.5, weight_decay=0.0)
    parameter.grad = torch.full((4,), 2.0)
    lamb.step()
    torch.testing.assert_close(parameter.detach(), torch.full((4,), -0.5), rtol=1e-5, atol=0)


def test_state_can_be_made_before_the_first_step() -> None:
    parameter = torch.nn.Parameter(torch.ones(4))
    lamb = Lamb([{"params": [parameter]}])
    lamb.initialize_state()
    assert lamb.steps == 0
    lamb.steps = 41
    parameter.grad = torch.ones(4)
    lamb.step()
    assert lamb.steps == 42


def test_a_tensor_without_any_gradient_stays_as_it_is() -> None:
    """By the letter of the algorithm r is 0, the ratio 1 / decay, and the tensor would shrink by lr each step."""
    parameter = torch.nn.Parameter(torch.ones(6))
    lamb = Lamb([{"params": [parameter]}], lr=0.1, weight_decay=0.01)
    lamb.set_fragments(parameter, [Fragment(0, 3), Fragment(3, 3)])
    parameter.grad = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    lamb.step()
    assert parameter[:3].tolist() == [1.0] * 3
    assert (parameter[3:] < 1.0).all()
