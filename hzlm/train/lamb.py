"""LAMB (You et al. 2019, arXiv 1904.00962, algorithm 2) with trust ratios per logical tensor.

ZeRO hands its optimizer one flat tensor that holds many parameters. A trust ratio taken over that would not be
LAMB's, so the optimizer is told which stretch of the flat tensor is which parameter.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer


@dataclass(frozen=True)
class Fragment:
    """`numel` elements from `start` on in a flat tensor: one logical tensor."""

    start: int
    numel: int

    def of(self, flat: Tensor) -> Tensor:
        """The view of this stretch of a flat tensor."""
        return flat.narrow(0, self.start, self.numel)


class Lamb(Optimizer):
    """x <- x - lr * |x| / |r + decay x| * (r + decay x), where r is Adam's bias-corrected step.

    Per parameter group: `lr`, `betas`, `eps`, `weight_decay`, and `trust`: whether the ratio |x| / |...| applies (it
    is 1 where it does not, and where either norm is 0). The scaling function phi of the paper is the identity.
    State per tensor: `exp_avg`, `exp_avg_sq` (float32, the tensor's shape) and `step`.
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

    def set_fragments(self, flat: Tensor, fragments: Sequence[Fragment]) -> None:
        """Says which logical tensors the flat parameter tensor `flat` holds. What lies between them is left alone."""
        self._fragments[flat] = fragments

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
        """One step on every parameter with a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.initialize_state()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        state["step"] += 1
        beta1, beta2 = group["betas"]
        correction1 = 1.0 - beta1 ** state["step"]
        correction2 = 1.0 - beta2 ** state["step"]
        flat, gradient = parameter.view(-1), gradient.reshape(-1)
        moment1, moment2 = state["exp_avg"].view(-1), state["exp_avg_sq"].view(-1)
        for fragment in self._fragments.get(parameter, [Fragment(0, flat.numel())]):
            x, g, m, v = (fragment.of(tensor) for tensor in (flat, gradient, moment1, moment2))
            m.lerp_(g, 1.0 - beta1)
            v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
            if float(v.amax()) == 0.0:
                continue  # never had a gradient: the trust ratio would make lr * x of its weight decay
            # (m / correction1) / (sqrt(v / correction2) + eps), both corrections in the denominator
            denominator = v.sqrt().mul_(correction1 * correction2**-0.5).add_(correction1 * group["eps"])
            update = torch.div(m, denominator, out=denominator)
            if group["weight_decay"] != 0.0:
                update.add_(x, alpha=group["weight_decay"])
            ratio = self._trust_ratio(x, update) if group["trust"] else 1.0
            x.add_(update, alpha=-group["lr"] * ratio)

    @staticmethod
    def _trust_ratio(x: Tensor, update: Tensor) -> float:
        weight_square, update_square = float(x.dot(x)), float(update.dot(update))
        return math.sqrt(weight_square / update_square) if weight_square > 0.0 and update_square > 0.0 else 1.0
