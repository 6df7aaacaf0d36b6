"""Activation checkpointing: what the forward pass computes anew in the backward pass instead of keeping it.

"selective" (Korthikanti et al. 2022, arXiv 2205.05198, section 5) does so with attention scores and weights, which are
large and cheap; "whole" (Chen et al. 2016, arXiv 1604.06174) with all but the input of a block.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Recompute = Literal["none", "selective", "whole"]


def recompute_if(wanted: bool, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """function(*inputs), keeping no more than the inputs for the backward pass where `wanted`."""
    if wanted and torch.is_grad_enabled():
        again: Tensor = checkpoint(function, *inputs, use_reentrant=False)
        return again
    return function(*inputs)
