"""LAMB (You et al. 2019, arXiv 1904.00962, algorithm 2) with trust ratios per logical tensor, and AdamW.

The optimizers as DeepSpeed and torch know them; the step itself is `hzlm.kernels.lamb`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from hzlm.kernels.lamb import Flat, Fragment, Layout, Settings, SumOver, lamb

Kernels = Literal["torch", "triton"]
"""Which implementation of the step: plain torch, or the kernels of a CUDA GPU."""


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
        kernels: Kernels = "torch",
    ):
        """kernels: what takes the steps; "triton" needs Triton, and float32 tensors on a CUDA device."""
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "trust": True}
        super().__init__([dict(group) for group in parameters], defaults)
        self._layouts: dict[Tensor, Layout] = {}
        self._moving: dict[Tensor, dict[float, Layout]] = {}
        self._factors: dict[int, float] = {}
        self._count = 0
        self._sum_over: SumOver | None = None
        self._lamb = _choose(kernels)

    def set_fragments(self, flat: Tensor, fragments: Sequence[Fragment]) -> None:
        """Says what the flat parameter `flat` holds; what lies between the fragments is left alone.

        A parameter that nothing is said of is a logical tensor of its own.
        """
        self._layouts[flat] = Layout(fragments)
        self._moving.pop(flat, None)
        self._count = max([self._count, *(fragment.number + 1 for fragment in fragments)])

    def set_layout(self, count: int, sum_over: SumOver) -> None:
        """Says that `count` logical tensors lie on several ranks, each of which has called `set_fragments` for all.

        Args:
            count: logical tensors, numbered from 0.
            sum_over: adds up a float64 tensor [count, 3] over the ranks and returns it. It is called once in a `step`,
                on all of the ranks, and not where no group of the step has a trust ratio or weight decay.
        """
        self._count, self._sum_over = count, sum_over

    def set_rate_factors(self, factors: Mapping[int, float]) -> None:
        """Says what `lr` is multiplied by for logical tensors, by their numbers; for others it is 1.

        Where it is 0 nothing changes: neither the tensor nor its moments.
        """
        self._factors = dict(factors)
        self._moving.clear()

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
        """One step on every parameter with a gradient; afterwards the gradients hold anything."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.initialize_state()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.state[parameter]["step"] += 1
        self._update()
        return loss

    def _update(self) -> None:
        """The step itself, on moments and counts that exist."""
        flats = [
            flat
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
            for flat in self._flats(parameter, parameter.grad, group)
        ]
        needs_sums = any(_settings(group, 1).needs_sums for group in self.param_groups)
        device = next(parameter.device for group in self.param_groups for parameter in group["params"])
        self._lamb(flats, self._count, device, self._sum_over if needs_sums else None)

    def _flats(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> list[Flat]:
        """A parameter once for each learning rate in it."""
        state = self.state[parameter]
        x, g, m, v = (t.reshape(-1) for t in (parameter, gradient, state["exp_avg"], state["exp_avg_sq"]))
        return [
            Flat(x, g, m, v, layout, _settings(group, state["step"], factor))
            for factor, layout in self._moving_of(parameter).items()
        ]

    def _moving_of(self, parameter: Tensor) -> Mapping[float, Layout]:
        """What of a parameter moves, by the factor on its learning rate."""
        if parameter not in self._moving:
            parts: dict[float, list[Fragment]] = {}
            for fragment in self._layout_of(parameter).fragments:
                parts.setdefault(self._factors.get(fragment.number, 1.0), []).append(fragment)
            self._moving[parameter] = {factor: Layout(part) for factor, part in parts.items() if factor > 0.0}
        return self._moving[parameter]

    def _layout_of(self, parameter: Tensor) -> Layout:
        if parameter not in self._layouts:
            self.set_fragments(parameter, [Fragment(0, parameter.numel(), self._count)])
        return self._layouts[parameter]


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
        kernels: Kernels = "torch",
    ):
        super().__init__([{**group, "trust": False} for group in parameters], lr, betas, eps, weight_decay, kernels)


def _choose(kernels: Kernels) -> Callable[..., None]:
    if kernels == "torch":
        return lamb
    from hzlm.kernels.gpu import lamb as gpu  # only here: Triton is not installed everywhere

    return gpu.lamb


def _settings(group: Mapping[str, Any], step: int, rate_factor: float = 1.0) -> Settings:
    rest = {key: group[key] for key in ("betas", "eps", "weight_decay", "trust")}
    return Settings(lr=group["lr"] * rate_factor, **rest, step=step)
