"""Which kernels a model computes with."""

import subprocess
import sys

import pytest
import torch
import triton

from hzlm.errors import UserError
from hzlm.kernels.faces import TORCH, choose_kernels

CPU = torch.device("cpu")


def test_on_a_cpu_it_is_torch_unless_the_interpreter_is_asked_for() -> None:
    assert choose_kernels("auto", CPU, 48) is TORCH
    assert choose_kernels("torch", CPU, 48) is TORCH
    assert choose_kernels("triton", CPU, 64).name == "triton"


def test_triton_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"hidden_size / model.heads = 48, but .* 32, 64, 96, 128; change model.heads"):
        choose_kernels("triton", CPU, 48)
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(UserError, match=r"train\.kernels = triton needs a CUDA GPU; make it auto"):
        choose_kernels("triton", CPU, 64)


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "torch"), ((8, 0), "triton"), ((9, 0), "triton")])
def test_auto_takes_triton_on_gpus_that_are_new_enough(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str
) -> None:
    """What torch says of its GPU is put in its mouth here."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    gpu = torch.device("cuda", 0)
    assert choose_kernels("auto", gpu, 64).name == name
    assert choose_kernels("torch", gpu, 64) is TORCH


def test_training_and_converting_on_a_cpu_need_no_triton() -> None:
    program = "import sys; sys.modules['triton'] = None; import hzlm.train.run, hzlm.decode.converter"
    subprocess.run([sys.executable, "-c", program], check=True)
