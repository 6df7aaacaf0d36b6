"""NVIDIA apex's FusedLAMB in the place of `Lamb`, where it takes the same step: on CUDA, with nothing sharded.

Written from apex's published source (apex/optimizers/fused_lamb.py, csrc/multi_tensor_lamb.cu) and tested with a
stand-in that does what it says. It was never run with apex itself.
"""

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hzlm.kernels.lamb import Layout
from hzlm.parallel.mesh import Mesh
from hzlm.train.lamb import Lamb


def choose_lamb(mesh: Mesh) -> type[Lamb]:
    """`ApexLamb` if this rank is alone in its pipeline stage, computes on CUDA and has a working apex; else `Lamb`."""
    if mesh.stage.size == 1 and mesh.device.type == "cuda" and find_fused_lamb() is not None:
        return ApexLamb
    return Lamb


def find_fused_lamb() -> type[Optimizer] | None:
    """apex's FusedLAMB; None without apex, without its CUDA kernels, or with another project of that name (PyPI's)."""
    try:
        fused_lamb: type[Optimizer] = import_module("apex.optimizers").FusedLAMB
        kernels = import_module("apex.multi_tensor_apply").multi_tensor_applier.available
    except (ImportError, AttributeError):
        return None
    return fused_lamb if kernels else None


class ApexLamb(Lamb):
    """`Lamb` whose steps are taken by apex's FusedLAMB, on views of the parameters, gradients and moments here.

    All tensors must be whole on this rank. A group without trust ratio must be without weight decay.
    """

    def __init__(self, parameters: Sequence[Mapping[str, Any]], **settings: Any):
        super().__init__(parameters, **settings)
        self._fused: dict[Layout, Optimizer] = {}

    def _update(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    for factor, layout in self._moving_of(parameter).items():
                        scaled = {**group, "lr": group["lr"] * factor}
                        self._step_fused(parameter, layout, parameter.grad.view(-1), scaled)

    def _step_fused(self, parameter: Tensor, layout: Layout, gradient: Tensor, group: Mapping[str, Any]) -> None:
        if layout not in self._fused:
            self._fused[layout] = self._fuse(parameter, layout, group)
        fused = self._fused[layout]
        [own] = fused.param_groups
        own.update({key: group[key] for key in ("lr", "betas", "eps", "weight_decay")})
        own["step"] = self.state[parameter]["step"] - 1  # it counts on by itself
        views = own["params"]
        known = torch.stack([fused.state[view]["exp_avg_sq"].any() for view in views]).tolist()
        for view, fragment, had_gradient in zip(views, layout.fragments, known, strict=True):
            part = fragment.of(gradient)
            view.grad = part if had_gradient or part.any() else None  # one that never had a gradient stays as it is
        fused.step()
        for view in views:
            view.grad = None

    def _fuse(self, parameter: Tensor, layout: Layout, group: Mapping[str, Any]) -> Optimizer:
        """A FusedLAMB of its own for each layout: whether the ratio applies is a setting of all of it."""
        if group["weight_decay"] != 0.0 and not group["trust"]:
            raise ValueError("FusedLAMB has no weight decay without trust ratio: use hzlm.train.lamb.Lamb")
        flats = {key: self.state[parameter][key].view(-1) for key in ("exp_avg", "exp_avg_sq")}
        views = [nn.Parameter(fragment.of(parameter.detach().view(-1))) for fragment in layout.fragments]
        fused: Optimizer = import_module("apex.optimizers").FusedLAMB(
            views,
            bias_correction=True,
            adam_w_mode=True,
            grad_averaging=True,
            max_grad_norm=math.inf,  # gradients come clipped; it divides only where the norm is greater than this
            use_nvlamb=group["trust"],  # else the ratio applies only where there is weight decay
        )
        for view, fragment in zip(views, layout.fragments, strict=True):
            fused.state[view] = {key: fragment.of(flat) for key, flat in flats.items()}
        return fused
