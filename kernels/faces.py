"""Which implementation of each operation a model computes with, plain torch or Triton: chosen when it is built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hzlm.config import ModelConfig
from hzlm.errors import UserError
from hzlm.kernels import attention, bias_relu_dropout, embedding, layer_norm, linear_cross_entropy
from hzlm.kernels.linear_cross_entropy import CrossEntropy

Choice = Literal["auto", "torch", "triton"]
OLDEST_GPU = (8, 0)
"""Compute capability that the Triton kernels are made for, at least."""


@dataclass(frozen=True)
class Kernels:
    """The operations of the model, each as the file of its name in `hzlm.kernels` describes it."""

    name: Literal["torch", "triton"]
    attention: Callable[..., Tensor]
    layer_norm: Callable[..., Tensor]
    add_layer_norm: Callable[..., tuple[Tensor, Tensor]]
    add: Callable[..., Tensor]
    bias_relu_dropout: Callable[..., Tensor]
    embed: Callable[..., Tensor]
    add_places: Callable[..., Tensor]
    linear_cross_entropy: Callable[..., CrossEntropy]


def _assemble(name: Literal["torch", "triton"], *modules: Any) -> Kernels:
    """The faces of the modules attention, bias_relu_dropout, embedding, layer_norm and linear_cross_entropy."""
    attention, bias_relu_dropout, embedding, layer_norm, linear_cross_entropy = modules
    return Kernels(
        name,
        attention.attention,
        layer_norm.layer_norm,
        layer_norm.add_layer_norm,
        layer_norm.add,
        bias_relu_dropout.bias_relu_dropout,
        embedding.embed,
        embedding.add_places,
        linear_cross_entropy.linear_cross_entropy,
    )


TORCH = _assemble("torch", attention, bias_relu_dropout, embedding, layer_norm, linear_cross_entropy)


def choose_kernels(choice: Choice, device: torch.device, model: ModelConfig, tensor: int = 1) -> Kernels:
    """The implementation to use on a device.

    Args:
        choice: "auto": Triton on GPUs of capability 8.0 and later, torch elsewhere.
        device: where the model computes.
        model: its shape.
        tensor: tensor-parallel processes that share it.

    Raises:
        UserError: Triton is asked for where it has nothing to run on, or has no kernel of this shape.
    """
    on_gpu = device.type == "cuda" and torch.version.cuda is not None
    if choice == "torch" or (
        choice == "auto" and not (on_gpu and torch.cuda.get_device_capability(device) >= OLDEST_GPU)
    ):
        return TORCH
    return _load_triton(on_gpu, model, tensor)


def _load_triton(on_gpu: bool, model: ModelConfig, tensor: int) -> Kernels:
    """Imports Triton, which is not installed everywhere."""
    import triton

    from hzlm.kernels.gpu import attention, bias_relu_dropout, embedding, layer_norm, linear_cross_entropy

    if not on_gpu and not triton.knobs.runtime.interpret:
        raise UserError(
            "train.kernels = triton needs a CUDA GPU; make it auto, or set TRITON_INTERPRET=1 in the environment to "
            "run the kernels slowly in Triton's interpreter"
        )
    head_size = model.hidden_size // model.heads
    if head_size not in attention.HEAD_SIZES:
        sizes = ", ".join(map(str, attention.HEAD_SIZES))
        raise UserError(
            f"model.hidden_size / model.heads = {head_size}, but the Triton kernels have head sizes {sizes}; "
            "change model.heads, or set train.kernels=torch"
        )
    if model.hidden_size > layer_norm.WIDEST:
        raise UserError(
            f"model.hidden_size = {model.hidden_size}, but the Triton kernels are at most {layer_norm.WIDEST} wide; "
            "make it smaller, or set train.kernels=torch"
        )
    if model.activation_dropout > 0.0 and model.feed_forward_size // tensor % 4:
        raise UserError(
            f"model.feed_forward_size = {model.feed_forward_size} gives each of {tensor} tensor-parallel processes a "
            "number of features that is no multiple of 4, which the Triton kernels need for model.activation_dropout; "
            "change one of them, or set train.kernels=torch"
        )
    return _assemble("triton", attention, bias_relu_dropout, embedding, layer_norm, linear_cross_entropy)
