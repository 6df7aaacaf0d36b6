"""Linear layers whose weights are packed for a few rows at a time, as one sentence has them.

With few rows a matrix product is as slow as its weights are read, and PyTorch's usual ones read them at a fifth of what
the memory gives. FBGEMM (Khudia et al. 2021, arXiv 2101.05615) stores them in 16 bits, in the order they are read.
Products are summed in float32, and what bfloat16 or float16 weights say is kept.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hzlm.parallel.linear import ColumnParallelLinear, RowParallelLinear


def pack(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """x weight^T + bias as a function of x, its weight in float16: float32 [rows, in] -> float32 [rows, out].

    Args:
        weight: float [out, in].
        bias: float [out], or None.
    """
    packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().float(), None if bias is None else bias.float())
    multiply = torch.ops.quantized.linear_dynamic_fp16.default
    return lambda x: multiply(x, packed)


class PackedLinear(nn.Module):
    """A linear layer in packed form, to put where an unpacked one was. On CPUs only, no gradient."""

    def __init__(self, linear: ColumnParallelLinear | RowParallelLinear) -> None:
        super().__init__()
        self.bias = linear.bias.detach()
        self._multiply = pack(linear.weight.detach(), self.bias if linear.adds_bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [..., in] -> float32 [..., out]."""
        return self._multiply(x)


def can_pack(device: torch.device) -> bool:
    """Whether this build of PyTorch has FBGEMM and the device is an x86 CPU that it serves."""
    return device.type == "cpu" and "fbgemm" in torch.backends.quantized.supported_engines


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device is a CPU that multiplies bfloat16 itself, more than twice as fast as float32."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older PyTorch cannot tell
    return device.type == "cpu" and any(found.get(name) for name in ("avx512_bf16", "amx_bf16"))


def pack_linears(module: nn.Module) -> None:
    """Replaces every linear layer inside a float32 module by its packed form: from now on it can only be run."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ColumnParallelLinear | RowParallelLinear):
                parent.add_module(name, PackedLinear(child))
