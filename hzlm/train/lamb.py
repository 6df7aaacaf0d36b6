"""LAMB (You et al. 2019, arXiv 1904.00962, algorithm 2) with trust ratios per logical tensor, and AdamW.

ZeRO hands its optimizer one flat tensor: this rank's stretch of many parameters, which tensor parallelism may have
cut before. A trust ratio taken over that would not be LAMB's, so the optimizer is told which stretch of the flat
tensor belongs to which logical tensor, and adds up squares over the ranks before it takes a ratio.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

PIECE = 1 << 18
"""Elements that a CPU takes at a time: a float32 norm of so many is good to 1e-6."""


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


class Lamb(Optimizer):
    """x <- x - lr * |x| / |r + decay x| * (r + decay x), where r is Adam's bias-corrected step.

    Per parameter group: `lr`, `betas`, `eps`, `weight_decay`, and `trust`: whether the ratio |x| / |...| applies (it
    is 1 where it does not, and where either norm is 0). The scaling function phi of the paper is the identity.
    A tensor that never had a gradient stays as it is: its ratio would turn weight decay into x <- x - lr * x.
    State per parameter: `exp_avg`, `exp_avg_sq` (float32, the parameter's shape) and `step`.
    """

    def __init__(
        self,
        parameters: Sequence[Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "trust": True}
        super().__init__([dict(group) for group in parameters], defaults)
        self._fragments: dict[Tensor, Sequence[Fragment]] = {}
        self._count = 0
        self._sum_over: Callable[[Tensor], Tensor] | None = None

    def set_fragments(self, flat: Tensor, fragments: Sequence[Fragment]) -> None:
        """Says what the flat parameter `flat` holds; what lies between the fragments is left alone.

        A parameter that nothing is said of is a logical tensor of its own.
        """
        self._fragments[flat] = fragments
        self._count = max([self._count, *(fragment.number + 1 for fragment in fragments)])

    def set_layout(self, count: int, sum_over: Callable[[Tensor], Tensor]) -> None:
        """Says that `count` logical tensors lie on several ranks, each of which has called `set_fragments` for all.

        Args:
            count: logical tensors, numbered from 0.
            sum_over: adds up a float64 tensor [count, 3] over the ranks and returns it. It is called once in a `step`,
                on all of the ranks, and not where no group of the step has a trust ratio or weight decay.
        """
        self._count, self._sum_over = count, sum_over

    def initialize_state(self) -> None:
        """Zero moments and no steps, for every tensor that has none yet; the first `step` does it otherwise."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if not self.state[parameter]:
                    zeros = torch.zeros_like(parameter)
                    self.state[parameter] = {"step": 0, "exp_avg": zeros, "exp_avg_sq": zeros.clone()}

    @property
    def steps(self) -> int:
        """Steps made so far: what the bias correction counts."""
        return max((state["step"] for state in self.state.values()), default=0)

    @steps.setter
    def steps(self, steps: int) -> None:
        for state in self.state.values():
            state["step"] = steps

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step on every parameter with a gradient; it writes over the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.initialize_state()
        for group in self.param_groups:
            for parameter in _with_gradient(group):
                self.state[parameter]["step"] += 1
        self._update()
        return loss

    def _update(self) -> None:
        """The step itself, on moments and counts that exist."""
        parts = [
            part
            for group in self.param_groups
            for parameter in _with_gradient(group)
            for part in _write_updates(parameter, self.state[parameter], group, self._fragments_of(parameter))
        ]
        sums = self._sum(parts)
        for part in parts:
            rate = part.rate(*sums[part.fragment.number])
            if rate is not None:
                for x, update in part.pieces:
                    x.add_(update, alpha=-rate)

    def _sum(self, parts: Sequence["_Part"]) -> list[list[float]]:
        """`_Part.sums` of each logical tensor, over all of its parts on all ranks."""
        counted = [part for part in parts if part.fragment.counted and part.sums]
        # One transfer from the device; Python floats are float64 and are added in the same order every time.
        found = iter(torch.stack([value for part in counted for value in part.sums]).tolist() if counted else [])
        sums = [[0.0] * 3 for _ in range(self._count)]
        for part in counted:
            row = sums[part.fragment.number]
            for index in range(len(part.sums)):
                row[index % 3] += next(found)
        if self._sum_over is None or not any(_needs_sums(group) for group in self.param_groups):
            return sums
        device = self.param_groups[0]["params"][0].device
        summed: list[list[float]] = self._sum_over(torch.tensor(sums, dtype=torch.float64, device=device)).tolist()
        return summed

    def _fragments_of(self, parameter: Tensor) -> Sequence[Fragment]:
        if parameter not in self._fragments:
            self.set_fragments(parameter, [Fragment(0, parameter.numel(), self._count)])
        return self._fragments[parameter]


class AdamW(Lamb):
    """Loshchilov & Hutter 2019 (arXiv 1711.05101): `Lamb` without the trust ratio, in every group.

    Like `Lamb` it leaves a tensor that never had a gradient as it is; torch.optim.AdamW lets that decay.
    """

    def __init__(
        self,
        parameters: Sequence[Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__([{**group, "trust": False} for group in parameters], lr, betas, eps, weight_decay)


@dataclass(frozen=True, eq=False)
class _Part:
    """One fragment within one step."""

    fragment: Fragment
    group: Mapping[str, Any]
    scale: float
    pieces: Sequence[tuple[Tensor, Tensor]]
    """x, and scale * (r + decay x)."""
    sums: Sequence[Tensor]
    """Of each piece: the squares of x and of the scaled update, and what is 0 where no gradient ever was."""

    def rate(self, weight_square: float, update_square: float, gradient: float) -> float | None:
        """What times the scaled update x moves by, from the sums of its logical tensor; None: it stays."""
        if _needs_sums(self.group) and gradient == 0.0:
            return None
        lr: float = self.group["lr"]
        if self.group["trust"] and weight_square > 0.0 and update_square > 0.0:
            return lr * math.sqrt(weight_square / update_square)  # the scale cancels
        return lr / self.scale


def _write_updates(
    parameter: Tensor, state: Mapping[str, Any], group: Mapping[str, Any], fragments: Sequence[Fragment]
) -> Iterator[_Part]:
    """Moves the moments on and puts the update in the gradient's place."""
    assert parameter.grad is not None
    beta1, beta2 = group["betas"]
    correction1, correction2 = 1.0 - beta1 ** state["step"], 1.0 - beta2 ** state["step"]
    # (m / correction1) / (sqrt(v / correction2) + eps) is m / (sqrt(v) + eps * sqrt(correction2)) / scale
    scale = correction1 / math.sqrt(correction2)
    eps, decay = group["eps"] * math.sqrt(correction2), scale * group["weight_decay"]
    needs_sums = _needs_sums(group)
    flats = [tensor.reshape(-1) for tensor in (parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"])]
    for fragment in fragments:
        pieces, sums = [], []
        end = fragment.start + fragment.numel
        size = PIECE if parameter.device.type == "cpu" else max(1, fragment.numel)
        for start in range(fragment.start, end, size):
            x, g, m, v = (flat[start : min(start + size, end)] for flat in flats)
            m.lerp_(g, 1.0 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
            update = torch.div(m, torch.sqrt(v, out=g).add_(eps), out=g)
            if decay != 0.0:
                update.add_(x, alpha=decay)
            if needs_sums:
                sums += [x.dot(x), update.dot(update), v.amax()]
            pieces.append((x, update))
        yield _Part(fragment, group, scale, pieces, sums)


def _with_gradient(group: Mapping[str, Any]) -> Iterator[Tensor]:
    return (parameter for parameter in group["params"] if parameter.grad is not None)


def _needs_sums(group: Mapping[str, Any]) -> bool:
    """Without trust and weight decay, a tensor that never had a gradient has an update of 0 and needs no care."""
    return bool(group["trust"]) or group["weight_decay"] != 0.0
