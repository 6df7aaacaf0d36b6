"""What the kernels ask of their arguments before they are launched: a wrong one gets a ValueError that names it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hzlm.kernels.dropout import Draw

FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def check_like(name: str, tensor: Tensor, shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> None:
    """A tensor has this shape, the device of `like`, and its dtype or the one given."""
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {list(tensor.shape)}; it must be {list(shape)}")
    wanted = like.dtype if dtype is None else dtype
    if tensor.dtype != wanted:
        raise ValueError(f"{name} is {tensor.dtype}; it must be {wanted}")
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}; it must be on {like.device}")


def check_float(name: str, tensor: Tensor, dimensions: int) -> None:
    """A tensor is of a dtype that the kernels compute in, with so many dimensions."""
    if tensor.dtype not in FLOATS:
        raise ValueError(f"{name} is {tensor.dtype}; it must be one of {', '.join(map(str, FLOATS))}")
    if tensor.dim() != dimensions:
        raise ValueError(f"{name} has {tensor.dim()} dimensions; it must have {dimensions}")


def check_features(draw: Draw) -> None:
    """A draw of features starts where a word group of its counter does: one draw of Philox serves four features."""
    if draw.rate > 0.0 and draw.column % 4:
        raise ValueError(f"draw.column is {draw.column}; it must be a multiple of 4")
