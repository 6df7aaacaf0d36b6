"""Which implementation of each operation a model computes with, plain torch or Triton: chosen when it is built."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

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


TORCH = Kernels(
    "torch",
    attention.attention,
    layer_norm.layer_norm,
    layer_norm.add_layer_norm,
    layer_norm.add,
    bias_relu_dropout.bias_relu_dropout,
    embedding.embed,
    embedding.add_places,
    linear_cross_entropy.linear_cross_entropy,
)


def choose_kernels(choice: Choice, device: torch.device, head_size: int) -> Kernels:
    """The implementation to use on a device.

    Args:
        choice: "auto": Triton on GPUs of capability 8.0 and later, torch elsewhere.
        device: where the model computes.
        head_size: of its attention.

    Raises:
        UserError: Triton is asked for where it has nothing to run on, or has no kernel of this head size.
    """
    on_gpu = device.type == "cuda" and torch.version.cuda is not None
    if choice == "torch" or (choice == "auto" and not (on_gpu and torch.cuda.get_device_capability() >= OLDEST_GPU)):
        return TORCH
    return _load_triton(on_gpu, head_size)


def _load_triton(on_gpu: bool, head_size: int) -> Kernels:
    """Imports Triton, which is not installed everywhere."""
    import triton

    from hzlm.kernels.gpu import attention, bias_relu_dropout, embedding, layer_norm, linear_cross_entropy

    if not on_gpu and not triton.knobs.runtime.interpret:
        raise UserError(
            "train.kernels = triton needs a CUDA GPU; make it auto, or set TRITON_INTERPRET=1 in the environment to "
            "run the kernels slowly in Triton's interpreter"
        )
    if head_size not in attention.HEAD_SIZES:
        sizes = ", ".join(map(str, attention.HEAD_SIZES))
        raise UserError(
            f"model.hidden_size / model.heads = {head_size}, but the Triton kernels have head sizes {sizes}; "
            "change model.heads, or set train.kernels=torch"
        )
    return Kernels(
        "triton",
        attention.attention,
        layer_norm.layer_norm,
        layer_norm.add_layer_norm,
        layer_norm.add,
        bias_relu_dropout.bias_relu_dropout,
        embedding.embed,
        embedding.add_places,
        linear_cross_entropy.linear_cross_entropy,
    )
