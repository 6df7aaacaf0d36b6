"""Bias, ReLU and dropout between the two linear layers of a feed-forward network, in one operation.

Apart they are three passes over the widest activations of the model, and dropout keeps a mask of their size. Here the
result alone is kept: where it is 0, the gradient is 0, whether dropout or ReLU made it so. The linear layer's product
is needed by nobody else, so the result is written over it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hzlm.kernels.dropout import NO_DROPOUT, Draw, kept_features


def bias_relu_dropout_reference(x: Tensor, bias: Tensor, draw: Draw = NO_DROPOUT) -> Tensor:
    """The same as `bias_relu_dropout`, term by term, with the mask of the kernels; x is left as it is."""
    result = functional.relu(x + bias)
    if draw.rate > 0.0:
        kept = kept_features(draw, x.shape[:-1].numel(), x.shape[-1]).view(x.shape)
        result = torch.where(kept, result * draw.scale, 0.0)
    return result


def bias_relu_dropout(x: Tensor, bias: Tensor, draw: Draw = NO_DROPOUT) -> Tensor:
    """dropout(relu(x + bias)), differentiable.

    Args:
        x: [..., F], the product of a linear layer without its bias. The result may be written over it, where autograd
            allows that (`may_overwrite`): the caller must not use it any more.
        bias: [F].
        draw: its rate; the mask is torch's own.

    Returns:
        [..., F]. Nobody may write to it before the backward pass. NaN stays NaN, unless it is dropped.
    """
    result: Tensor = _BiasReluDropout.apply(x, bias, draw.rate)
    return result


def may_overwrite(x: Tensor) -> bool:
    """Whether autograd lets an operation write its result over x without more ado: what a linear layer has returned.

    Of a leaf the gradient would be lost. A view would take the history of its base along, which costs a copy of the
    gradient, and some views are refused.
    """
    return x.is_contiguous() and not x._is_view() and not (x.is_leaf and x.requires_grad)


class _BiasReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, rate: float) -> Tensor:
        if rate > 0.0:
            # not over x: there torch takes more than twice as long for its product of two bfloat16 tensors
            out = functional.dropout((x + bias).relu_(), rate)
        elif may_overwrite(x):
            ctx.mark_dirty(x)
            out = x.add_(bias).relu_()
        else:
            out = (x + bias).relu_()
        ctx.save_for_backward(out)
        ctx.scale = 1.0 / (1.0 - rate)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (out,) = ctx.saved_tensors
        below = torch.ops.aten.threshold_backward(gradient, out, 0)
        if ctx.scale != 1.0:
            below.mul_(ctx.scale)
        rows = below.reshape(-1, below.shape[-1])
        # the column sums as a product, which takes less time than `sum`
        return below, rows.new_ones(len(rows)) @ rows, None
