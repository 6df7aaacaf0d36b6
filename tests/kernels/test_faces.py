"""Which kernels a model computes with."""

import subprocess
import sys

import pytest
import torch
import triton

from hzlm.config import ModelConfig
from hzlm.errors import UserError
from hzlm.kernels.faces import TORCH, choose_kernels

CPU = torch.device("cpu")


def shape(heads: int = 2, hidden_size: int = 128, **fields: float) -> ModelConfig:
    """A model with heads of size 64, unless it is told otherwise."""
    sizes = {"feed_forward_size": 36, "encoder_layers": 1, "decoder_layers": 1, "max_length": 8}
    return ModelConfig.model_validate({"hidden_size": hidden_size, "heads": heads, **sizes, **fields})


def test_on_a_cpu_it_is_torch_unless_the_interpreter_is_asked_for() -> None:
    assert choose_kernels("auto", CPU, shape(8)) is TORCH
    assert choose_kernels("torch", CPU, shape(8)) is TORCH
    assert choose_kernels("triton", CPU, shape()).name == "triton"


def test_triton_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for model, tensor, told in (
        (shape(8), 1, r"hidden_size / model.heads = 16, but .* 32, 64, 96, 128; change model.heads"),
        (shape(128, 2**14), 1, r"hidden_size = 16384, but .* at most 8192 wide; make it smaller"),
        (shape(activation_dropout=0.1), 2, r"feed_forward_size = 36 gives each of 2 .* no multiple of 4"),
    ):
        with pytest.raises(UserError, match=told):
            choose_kernels("triton", CPU, model, tensor)
    assert choose_kernels("triton", CPU, shape(), 2).name == "triton"
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(UserError, match=r"train\.kernels = triton needs a CUDA GPU; make it auto"):
        choose_kernels("triton", CPU, shape())


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "torch"), ((8, 0), "triton"), ((9, 0), "triton")])
def test_auto_takes_triton_on_gpus_that_are_new_enough(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str
) -> None:
    """What torch says of its GPU is put in its mouth here."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    gpu = torch.device("cuda", 0)
    assert choose_kernels("auto", gpu, shape()).name == name
    assert choose_kernels("torch", gpu, shape()) is TORCH


def test_training_and_converting_on_a_cpu_need_no_triton() -> None:
    program = "import sys; sys.modules['triton'] = None; import hzlm.train.run, hzlm.decode.converter"
    subprocess.run([sys.executable, "-c", program], check=True)
