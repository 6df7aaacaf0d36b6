"""The step of LAMB (You et al. 2019, arXiv 1904.00962, algorithm 2) and of AdamW on flat tensors, in plain torch.

ZeRO hands its optimizer one flat tensor: this rank's stretch of many parameters, which tensor parallelism may have
cut before. A trust ratio taken over that would not be LAMB's, so a layout says which stretch of the flat tensor
belongs to which logical tensor, and squares are added up over the ranks before a ratio is taken.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

PIECE = 1 << 18
"""Elements that a CPU takes at a time: a float32 norm of so many is good to 1e-6."""
SumOver = Callable[[Tensor], Tensor]
"""Adds up a float64 tensor [count, 3] over the ranks and returns it."""


@dataclass(frozen=True)
class Fragment:
    """`numel` elements from `start` on in a flat tensor: a logical tensor, or what this rank has of it."""

    start: int
    numel: int
    number: int
    """Of the logical tensor; the same on all ranks that have a part of it."""
    counted: bool = True
    """Whether it enters the norms of the tensor: False where another rank counts the same elements."""

    def of(self, flat: Tensor) -> Tensor:
        """The view of this stretch of a flat tensor."""
        return flat.narrow(0, self.start, self.numel)


@dataclass(frozen=True, eq=False)
class Layout:
    """What a flat tensor holds. One layout serves all steps: what is made of it for a GPU is made once."""

    fragments: Sequence[Fragment]
    """They do not overlap; what lies between them is left alone."""


@dataclass(frozen=True)
class Settings:
    """Of a parameter group in one step."""

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    trust: bool
    """Whether the ratio of the norms applies."""
    step: int
    """Steps that the moments will have made after this one: what the bias correction counts."""

    @cached_property
    def corrections(self) -> tuple[float, float]:
        """What the first and the second moment are divided by."""
        beta1, beta2 = self.betas
        return 1.0 - beta1**self.step, 1.0 - beta2**self.step

    # (m / correction1) / (sqrt(v / correction2) + eps) is m / (sqrt(v) + eps * sqrt(correction2)) / scale
    @cached_property
    def scale(self) -> float:
        """The scaled update is so many times r + decay x."""
        correction1, correction2 = self.corrections
        return correction1 / math.sqrt(correction2)

    @cached_property
    def scaled_eps(self) -> float:
        """Of the scaled update."""
        return self.eps * math.sqrt(self.corrections[1])

    @cached_property
    def scaled_decay(self) -> float:
        """Of the scaled update."""
        return self.scale * self.weight_decay

    @property
    def needs_sums(self) -> bool:
        """Without trust and weight decay, a tensor that never had a gradient has an update of 0 and needs no care."""
        return self.trust or self.weight_decay != 0.0


@dataclass(frozen=True, eq=False)
class Flat:
    """A flat tensor of one parameter group in one step: float tensors [n] of one dtype, and what they hold."""

    x: Tensor
    """The parameters; the step moves them."""
    gradient: Tensor
    """After the step it holds anything."""
    m: Tensor
    """The first moment; the step moves it."""
    v: Tensor
    """The second moment; the step moves it."""
    layout: Layout
    settings: Settings


def lamb_reference(flats: Sequence[Flat], count: int, device: torch.device, sum_over: SumOver | None = None) -> None:
    """`lamb`, term by term as the paper has it."""
    sums = torch.zeros(count, 3, dtype=torch.float64, device=device)
    for flat, fragment in _fragments(flats):
        (beta1, beta2), g = flat.settings.betas, fragment.of(flat.gradient)
        m, v = fragment.of(flat.m), fragment.of(flat.v)
        m.copy_(beta1 * m + (1.0 - beta1) * g)
        v.copy_(beta2 * v + (1.0 - beta2) * g.square())
        if fragment.counted and flat.settings.needs_sums:
            x, update = fragment.of(flat.x), _update(flat, fragment)
            sums[fragment.number] += torch.stack([x.square().sum(), update.square().sum(), v.sum()])
    if sum_over is not None:
        sums = sum_over(sums)
    for flat, fragment in _fragments(flats):
        weight_square, update_square, gradient = sums[fragment.number]
        if flat.settings.needs_sums and gradient == 0.0:
            continue
        rate = flat.settings.lr
        if flat.settings.trust and weight_square > 0.0 and update_square > 0.0:
            rate *= float(weight_square.sqrt() / update_square.sqrt())
        fragment.of(flat.x).sub_(rate * _update(flat, fragment))


def _fragments(flats: Sequence[Flat]) -> Iterator[tuple[Flat, Fragment]]:
    return ((flat, fragment) for flat in flats for fragment in flat.layout.fragments)


def _update(flat: Flat, fragment: Fragment) -> Tensor:
    x, m, v = (fragment.of(tensor) for tensor in (flat.x, flat.m, flat.v))
    correction1, correction2 = flat.settings.corrections
    return (m / correction1) / ((v / correction2).sqrt() + flat.settings.eps) + flat.settings.weight_decay * x


def lamb(flats: Sequence[Flat], count: int, device: torch.device, sum_over: SumOver | None = None) -> None:
    """x <- x - lr * |x| / |r + decay x| * (r + decay x), where r is Adam's bias-corrected step.

    The norms are those of a logical tensor, over all of its counted fragments. The ratio is 1 where `trust` is off and
    where either norm is 0. A tensor that never had a gradient stays as it is: its ratio would turn weight decay into
    x <- x - lr * x. What a layout does not name is left alone, but for the gradient.

    Args:
        flats: what this rank moves.
        count: logical tensors, numbered from 0.
        device: of the sums, also where there are no flat tensors.
        sum_over: for logical tensors that lie on several ranks. It is called once, between the two halves of the step,
            with a float64 tensor [count, 3] of this rank's sums of each logical tensor: the squares of x, those of the
            update, and what is 0 where no gradient ever was.
    """
    parts = [_write_updates(flat, fragment) for flat, fragment in _fragments(flats)]
    sums = _sum(parts, count)
    if sum_over is not None:
        sums = sum_over(torch.tensor(sums, dtype=torch.float64, device=device)).tolist()
    for part in parts:
        rate = part.rate(*sums[part.fragment.number])
        if rate is not None:
            for x, update in part.pieces:
                x.add_(update, alpha=-rate)


@dataclass(frozen=True, eq=False)
class _Part:
    """One fragment within one step."""

    fragment: Fragment
    settings: Settings
    pieces: Sequence[tuple[Tensor, Tensor]]
    """x, and scale * (r + decay x)."""
    sums: Sequence[Tensor]
    """Of each piece: the squares of x and of the scaled update, and what is 0 where no gradient ever was."""

    def rate(self, weight_square: float, update_square: float, gradient: float) -> float | None:
        """What times the scaled update x moves by, from the sums of its logical tensor; None: it stays."""
        if self.settings.needs_sums and gradient == 0.0:
            return None
        if self.settings.trust and weight_square > 0.0 and update_square > 0.0:
            return self.settings.lr * math.sqrt(weight_square / update_square)  # the scale cancels
        return self.settings.lr / self.settings.scale


def _write_updates(flat: Flat, fragment: Fragment) -> _Part:
    """Moves the moments on and puts the update in the gradient's place."""
    settings = flat.settings
    beta1, beta2 = settings.betas
    eps, decay, needs_sums = settings.scaled_eps, settings.scaled_decay, settings.needs_sums
    pieces, sums = [], []
    end = fragment.start + fragment.numel
    size = PIECE if flat.x.device.type == "cpu" else max(1, fragment.numel)
    for start in range(fragment.start, end, size):
        piece = slice(start, min(start + size, end))
        x, g, m, v = flat.x[piece], flat.gradient[piece], flat.m[piece], flat.v[piece]
        m.lerp_(g, 1.0 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
        update = torch.div(m, torch.sqrt(v, out=g).add_(eps), out=g)
        if decay != 0.0:
            update.add_(x, alpha=decay)
        if needs_sums:
            sums += [x.dot(x), update.dot(update), v.amax()]
        pieces.append((x, update))
    return _Part(fragment, settings, pieces, sums)


def _sum(parts: Sequence[_Part], count: int) -> list[list[float]]:
    """`_Part.sums` of each logical tensor, over all of its parts on this rank."""
    counted = [part for part in parts if part.fragment.counted and part.sums]
    # One transfer from the device; Python floats are float64 and are added in the same order every time.
    found = iter(torch.stack([value for part in counted for value in part.sums]).tolist() if counted else [])
    sums = [[0.0] * 3 for _ in range(count)]
    for part in counted:
        row = sums[part.fragment.number]
        for index in range(len(part.sums)):
            row[index % 3] += next(found)
    return sums
