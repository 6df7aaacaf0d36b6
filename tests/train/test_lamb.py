"""LAMB against algorithm 2 of the paper, written out in float64; AdamW against torch's; several ranks against one."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hzlm.kernels.lamb import Fragment, SumOver
from hzlm.train.lamb import AdamW, Kernels, Lamb

both = pytest.mark.parametrize("kernels", ["torch", "triton"])


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
@both
def test_steps_equal_the_paper(decay: float, trust: bool, flat: bool, kernels: Kernels) -> None:
    generator = np.random.default_rng(0)
    shapes = [(7, 5), (3,), (4, 4)]
    starts = [generator.normal(size=shape).astype(np.float32) for shape in shapes]
    paper = [PaperLamb(start, decay, trust) for start in starts]
    if flat:  # as ZeRO hands it over: all tensors one after the other, with a gap that belongs to none
        sizes = [start.size for start in starts]
        offsets = [0, sizes[0], sizes[0] + sizes[1] + 2]
        whole = torch.zeros(sum(sizes) + 4)
        fragments = [
            Fragment(offset, size, number) for number, (offset, size) in enumerate(zip(offsets, sizes, strict=True))
        ]
        parameters = [torch.nn.Parameter(whole)]
        views = [fragment.of(whole) for fragment in fragments]
        for view, start in zip(views, starts, strict=True):
            view.copy_(torch.from_numpy(start).flatten())
    else:
        parameters = [torch.nn.Parameter(torch.from_numpy(start.copy())) for start in starts]
        views = [parameter.data.view(-1) for parameter in parameters]
    groups = [{"params": parameters, "weight_decay": decay, "trust": trust}]
    lamb = Lamb(groups, betas=(0.9, 0.99), eps=1e-6, kernels=kernels)
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


@both
def test_a_tensor_without_any_gradient_stays_as_it_is(kernels: Kernels) -> None:
    """By the letter of the algorithm r is 0, the ratio 1 / decay, and the tensor would shrink by lr each step."""
    parameter = torch.nn.Parameter(torch.ones(6))
    lamb = Lamb([{"params": [parameter]}], lr=0.1, weight_decay=0.01, kernels=kernels)
    lamb.set_fragments(parameter, [Fragment(0, 3, 0), Fragment(3, 3, 1)])
    parameter.grad = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    lamb.step()
    assert parameter[:3].tolist() == [1.0] * 3
    assert (parameter[3:] < 1.0).all()


@both
def test_adamw_equals_torch(kernels: Kernels) -> None:
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=generator) for shape in ((7, 5), (3,))]
    ours, theirs = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    betas = (0.9, 0.99)
    settings = [{"params": ours[:1], "weight_decay": 0.1, "trust": True}, {"params": ours[1:]}]
    mine = AdamW(settings, 0.01, betas, 1e-3, kernels=kernels)
    groups: list[dict[str, Any]] = [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:]}]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=betas, eps=1e-3)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            b.grad = torch.randn(b.shape, generator=generator)
            a.grad = b.grad.clone()
        mine.step()
        reference.step()
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).norm() <= 1e-6 * b.norm()
    assert [state.keys() for state in mine.state.values()] == [{"step", "exp_avg", "exp_avg_sq"}] * 2


SHAPES = ((6, 5), (3,), (4, 4), (9,), (8, 3))
"""Logical tensors; those of two dimensions are cut over the tensor-parallel ranks, the others replicated."""
SILENT = 2
"""The one that gets no gradient before the last steps."""


def logical(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def gradients(step: int) -> list[Tensor]:
    found = logical(100 + step)
    if step < 4:
        found[SILENT].zero_()
    return found


def flatten(tensors: Sequence[Tensor], tensor: int, of: int) -> Tensor:
    """What tensor-parallel rank `tensor` of `of` holds, one behind the other."""
    return torch.cat([(x.tensor_split(of)[tensor] if x.dim() > 1 else x).flatten() for x in tensors])


def find_fragments(start: int, end: int, tensor: int, of: int) -> list[Fragment]:
    """The stretch [start, end) of `flatten` by logical tensors."""
    found, first = [], 0
    for number, x in enumerate(logical(0)):
        size = len(flatten([x], tensor, of))
        begin, stop = max(start, first), min(end, first + size)
        if begin < stop:
            found.append(Fragment(begin - start, stop - begin, number, counted=x.dim() > 1 or tensor == 0))
        first += size
    return found


def train(
    kind: Callable[..., Lamb], tensor: int, of: int, start: int, end: int, sum_over: SumOver | None
) -> list[Tensor]:
    """What a rank with this stretch of the flat parameter makes of it in each of 6 steps."""
    parameter = torch.nn.Parameter(flatten(logical(0), tensor, of)[start:end].clone())
    lamb = kind([{"params": [parameter], "weight_decay": 0.05}], lr=0.02, betas=(0.9, 0.99))
    lamb.set_fragments(parameter, find_fragments(start, end, tensor, of))
    if sum_over is not None:
        lamb.set_layout(len(SHAPES), sum_over)
    steps = []
    for step in range(6):
        parameter.grad = flatten(gradients(step), tensor, of)[start:end].clone()
        lamb.step()
        steps.append(parameter.detach().clone())
    return steps


class Ranks:
    """Threads that add their tensors up in the order of their ranks, as an all-reduce does.

    Between the sums they take turns: Triton's interpreter runs one kernel at a time.
    """

    def __init__(self, world: int):
        self.turn = threading.Lock()
        self._barrier = threading.Barrier(world, timeout=60)
        self._given: dict[int, Tensor] = {}
        self.calls: list[Tensor] = []

    def sum_over(self, rank: int) -> SumOver:
        def all_reduce(x: Tensor) -> Tensor:
            self._given[rank] = x.clone()
            self.turn.release()
            self._barrier.wait()
            total = sum((self._given[number] for number in sorted(self._given)), torch.zeros_like(x))
            self._barrier.wait()
            self.turn.acquire()
            if rank == 0:
                self.calls.append(total)
            return x.copy_(total)

        return all_reduce


def train_ranks(
    kind: Callable[..., Lamb], of: int, cuts: Sequence[int]
) -> tuple[list[list[list[Tensor]]], list[Tensor]]:
    """Steps by tensor-parallel rank, then by stretch between `cuts`; and every sum that the ranks have asked for."""
    places = []
    for tensor in range(of):
        size = len(flatten(logical(0), tensor, of))
        bounds = [0, *sorted(min(cut, size) for cut in cuts), size]
        places += [(tensor, start, end) for start, end in pairwise(bounds)]
    ranks, found = Ranks(len(places)), [list[Tensor]() for _ in places]

    def run(rank: int) -> None:
        tensor, start, end = places[rank]
        with ranks.turn:
            found[rank] = train(kind, tensor, of, start, end, ranks.sum_over(rank))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(places))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = len(cuts) + 1
    return [found[tensor * data : (tensor + 1) * data] for tensor in range(of)], ranks.calls


def check_ranks(kind: Callable[..., Lamb], of: int, cuts: Sequence[int]) -> None:
    shards, calls = train_ranks(kind, of, cuts)
    alone = train(kind, 0, 1, 0, len(flatten(logical(0), 0, 1)), None)
    assert len(calls) == len(alone), "one all-reduce a step"
    for summed, start in zip(calls, [torch.cat([x.flatten() for x in logical(0)]), *alone], strict=False):
        squares = [float(x.double().square().sum()) for x in start.split([x.numel() for x in logical(0)])]
        torch.testing.assert_close(summed[:, 0].tolist(), squares, rtol=1e-6, atol=0, msg="each element counts once")
    for step, whole in enumerate(alone):
        expected = whole.split([x.numel() for x in logical(0)])
        flats = [torch.cat([stretch[step] for stretch in stretches]) for stretches in shards]
        for number, (x, start) in enumerate(zip(expected, logical(0), strict=True)):
            before = [sum(len(flatten([x], tensor, of)) for x in logical(0)[:number]) for tensor in range(of)]
            sizes = [len(flatten([start], tensor, of)) for tensor in range(of)]
            parts = [flat[b : b + size] for flat, b, size in zip(flats, before, sizes, strict=True)]
            if start.dim() == 1:
                assert all(torch.equal(part, parts[0]) for part in parts), "replicas stay equal, bit for bit"
            joined = torch.cat(parts) if start.dim() > 1 else parts[0]
            moved = (x - start.flatten()).norm()
            assert (moved == 0.0) == (number == SILENT and step < 4)
            assert (joined - x).norm() <= 1e-6 * x.norm()


@pytest.mark.parametrize("kind", [Lamb, AdamW])
@pytest.mark.parametrize(("of", "cuts"), [(1, [41]), (1, [20, 50]), (2, []), (2, [25]), (3, []), (4, []), (1, [0])])
def test_ranks_equal_one(kind: type[Lamb], of: int, cuts: list[int]) -> None:
    check_ranks(kind, of, cuts)


@pytest.mark.parametrize("kind", [Lamb, AdamW])
@pytest.mark.parametrize(("of", "cuts"), [(2, [25]), (1, [0])])
def test_ranks_equal_one_in_triton(kind: type[Lamb], of: int, cuts: list[int]) -> None:
    check_ranks(partial(kind, kernels="triton"), of, cuts)


@given(of=st.integers(1, 3), cuts=st.lists(st.integers(0, 82), max_size=3))
def test_any_cut_equals_one(of: int, cuts: list[int]) -> None:
    check_ranks(Lamb, of, cuts)


@both
def test_no_sum_where_none_is_needed(kernels: Kernels) -> None:
    """The group of biases asks nothing of other ranks: DeepSpeed steps group by group."""
    parameter = torch.nn.Parameter(torch.ones(4))
    lamb = Lamb([{"params": [parameter], "weight_decay": 0.0, "trust": False}], kernels=kernels)
    lamb.set_layout(1, lambda sums: pytest.fail("summed"))
    parameter.grad = torch.ones(4)
    lamb.step()
    assert (parameter < 1.0).all()
