"""ApexLamb against Lamb, by a stand-in that takes the step which apex's published FusedLAMB describes."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hzlm.kernels.lamb import Fragment
from hzlm.parallel.mesh import ALONE, Axis, Mesh
from hzlm.train.apex_lamb import ApexLamb, choose_lamb, find_fused_lamb
from hzlm.train.lamb import Lamb

ON_CUDA = Mesh(device=torch.device("cuda"))
SIZES = (35, 3, 16, 8)
SILENT = 2
"""The tensor that gets no gradient before the last steps."""


class StandIn(torch.optim.Optimizer):
    """The step of apex.optimizers.FusedLAMB in plain torch, with its defaults and its place of the step count."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        adam_w_mode: bool = True,
        grad_averaging: bool = True,
        set_grad_none: bool = True,
        max_grad_norm: float = 1.0,
        use_nvlamb: bool = False,
    ):
        assert not amsgrad
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        flags = {"bias_correction": bias_correction, "grad_averaging": grad_averaging, "max_grad_norm": max_grad_norm}
        super().__init__(params, {**settings, **flags})
        self.adam_w_mode, self.use_nvlamb, self.set_grad_none = adam_w_mode, use_nvlamb, set_grad_none

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = float(torch.cat([torch.zeros(1), *gradients]).norm())
        limit = self.defaults["max_grad_norm"]
        clip = norm / limit if norm > limit else 1.0
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            for p in group["params"]:
                if p.grad is not None:
                    if not self.state[p]:
                        self.state[p].update(exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
                    self._move(p, p.grad, self.state[p], group, clip)

    def _move(self, p: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any], clip: float) -> None:
        beta1, beta2 = group["betas"]
        decay = group["weight_decay"]
        scaled = gradient / clip
        if not self.adam_w_mode:
            scaled = scaled + decay * p
        beta3 = 1 - beta1 if group["grad_averaging"] else 1.0
        state["exp_avg"].copy_(beta1 * state["exp_avg"] + beta3 * scaled)
        state["exp_avg_sq"].copy_(beta2 * state["exp_avg_sq"] + (1 - beta2) * scaled**2)
        correct = [1 - beta ** group["step"] if group["bias_correction"] else 1.0 for beta in (beta1, beta2)]
        update = (state["exp_avg"] / correct[0]) / ((state["exp_avg_sq"] / correct[1]).sqrt() + group["eps"])
        if self.adam_w_mode:
            update = update + decay * p
        rate = group["lr"]
        if self.use_nvlamb or decay != 0:
            norms = float(p.norm()), float(update.norm())
            rate = rate * norms[0] / norms[1] if min(norms) > 0 else rate
        gradient.copy_(update)  # as the kernel does
        p.sub_(rate * update)


def package(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(members)
    return module


@pytest.fixture
def applier(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Puts the stand-in where apex would be; returns what says whether apex was built with its kernels."""
    applier = SimpleNamespace(available=True)
    optimizers = package("apex.optimizers", FusedLAMB=StandIn)
    apply = package("apex.multi_tensor_apply", multi_tensor_applier=applier)
    apex = package("apex", __path__=[], optimizers=optimizers, multi_tensor_apply=apply)
    for module in (apex, optimizers, apply):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return applier


def make(kind: type[Lamb], decay: float) -> Lamb:
    """Two flat parameters of the same four tensors, with a gap: one with trust ratio, one without."""
    generator = torch.Generator().manual_seed(1)
    flats = [torch.nn.Parameter(torch.randn(sum(SIZES) + 4, generator=generator)) for _ in range(2)]
    groups = [
        {"params": [flats[0]], "weight_decay": decay, "trust": True},
        {"params": [flats[1]], "weight_decay": 0.0, "trust": False},
    ]
    lamb = kind(groups, lr=0.01, betas=(0.9, 0.99), eps=1e-6)
    for number, flat in enumerate(flats):
        start, fragments = 0, []
        for tensor, size in enumerate(SIZES):
            fragments.append(Fragment(start, size, number * len(SIZES) + tensor))
            start += size + 1
        lamb.set_fragments(flat, fragments)
    return lamb


def take_step(lamb: Lamb, step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    flats = [group["params"][0] for group in lamb.param_groups]
    for flat in flats:
        flat.grad = 3.0 * torch.randn(len(flat), generator=generator)
        if step < 4:
            flat.grad[sum(SIZES[:SILENT]) + SILENT :][: SIZES[SILENT]] = 0.0
    lamb.param_groups[0]["lr"] = lamb.param_groups[1]["lr"] = 0.01 * (step + 1)
    lamb.step()
    return [flat.detach().clone() for flat in flats]


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize("factors", [{}, {0: 0.25, 1: 0.0, 6: 2.0}, dict.fromkeys(range(4), 0.0)])
def test_takes_the_steps_of_lamb(applier: SimpleNamespace, decay: float, factors: dict[int, float]) -> None:
    expected, found = make(Lamb, decay), make(ApexLamb, decay)
    for lamb in (expected, found):
        lamb.set_rate_factors(factors)
    for step in range(6):
        before = [group["params"][0].detach().clone() for group in expected.param_groups]
        for start, a, b in zip(before, take_step(expected, step), take_step(found, step), strict=True):
            assert (a - b).norm() <= 1e-6 * (a - start).norm() + 1e-6
            assert torch.equal(a, start) == torch.equal(b, start)
    for ours, theirs in zip(expected.state.values(), found.state.values(), strict=True):
        for key in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(theirs[key], ours[key], rtol=1e-5, atol=1e-8)
    assert found.steps == expected.steps == 6


def test_goes_on_from_restored_moments(applier: SimpleNamespace) -> None:
    """What a checkpoint does: parameters, moments and the step count are written in from outside."""
    expected, found = make(Lamb, 0.05), make(ApexLamb, 0.05)
    for step in range(3):
        take_step(expected, step)
    found.initialize_state()
    with torch.no_grad():
        for (source, ours), (target, theirs) in zip(expected.state.items(), found.state.items(), strict=True):
            target.copy_(source)
            for key in ("exp_avg", "exp_avg_sq"):
                theirs[key].copy_(ours[key])
    found.steps = expected.steps
    for step in range(3, 6):
        for a, b in zip(take_step(expected, step), take_step(found, step), strict=True):
            assert (a - b).norm() <= 1e-6 * a.norm()


def test_no_decay_without_trust(applier: SimpleNamespace) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    lamb = ApexLamb([{"params": [parameter], "weight_decay": 0.1, "trust": False}])
    parameter.grad = torch.ones(3)
    with pytest.raises(ValueError, match="no weight decay without trust ratio"):
        lamb.step()


def test_chosen_only_on_cuda_unsharded_with_kernels(applier: SimpleNamespace) -> None:
    assert choose_lamb(ON_CUDA) is ApexLamb
    assert choose_lamb(ALONE) is Lamb
    assert choose_lamb(Mesh(stage=Axis(2, 0), device=torch.device("cuda"))) is Lamb
    applier.available = False
    assert choose_lamb(ON_CUDA) is Lamb


@pytest.fixture
def no_apex() -> Iterator[None]:
    """Takes apex out of the loaded modules, and afterwards whatever the test has loaded by that name."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "apex"}
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "apex"]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.mark.parametrize("files", [["__init__.py"], ["__init__.py", "optimizers.py"]])
def test_another_project_named_apex_is_ignored(
    no_apex: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str]
) -> None:
    (tmp_path / "apex").mkdir()
    for file in files:
        (tmp_path / "apex" / file).touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert find_fused_lamb() is None
    assert choose_lamb(ON_CUDA) is Lamb
    assert sys.modules["apex"].__file__ == str(tmp_path / "apex" / "__init__.py")


def test_without_apex_it_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apex", None)
    assert choose_lamb(ON_CUDA) is Lamb
