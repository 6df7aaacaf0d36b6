"""What stands around every sublayer (Xiong et al. 2020, figure 1b): bias, dropout and residual, then LayerNorm.

A linear layer hands its product over without the bias. LayerNorm (Ba et al. 2016, equation 4) takes its mean and
variance in float32 of the sum as it is rounded to its dtype, which is what the next layer reads. These are the
definitions, and the torch paths that CPUs run; the kernels are `hzlm.kernels.gpu.layer_norm`.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.kernels.bias_relu_dropout import may_overwrite
from hzlm.kernels.dropout import NO_DROPOUT, Draw, kept_features


def layer_norm_reference(x: Tensor, weight: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """The same as `layer_norm`, term by term as the definition reads, at the precision of its input."""
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / (variance + eps).sqrt() * weight + shift


def add_reference(x: Tensor, bias: Tensor, residual: Tensor, draw: Draw = NO_DROPOUT) -> Tensor:
    """The same as `add`, term by term as the definition reads; the mask is that of the kernels."""
    biased = x + bias
    if draw.rate > 0.0:
        width = x.shape[-1]
        kept = kept_features(draw, x.numel() // width, width).reshape(x.shape)
        biased = biased * kept.to(x) * draw.scale
    return residual + biased


def add_layer_norm_reference(
    x: Tensor,
    bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    shift: Tensor,
    draw: Draw = NO_DROPOUT,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """The same as `add_layer_norm`, term by term as the definition reads; the mask is that of the kernels."""
    total = add_reference(x, bias, residual, draw)
    return total, layer_norm_reference(total, weight, shift, eps)


def layer_norm(x: Tensor, weight: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + shift, mean and variance over the last dimension.

    Args:
        x: [..., W].
        weight, shift: [W], of the dtype of x.
        eps: keeps the root from 0.

    Returns:
        [..., W], of the dtype of x.
    """
    return functional.layer_norm(x, x.shape[-1:], weight, shift, eps)


def add(x: Tensor, bias: Tensor, residual: Tensor, draw: Draw = NO_DROPOUT) -> Tensor:
    """residual + dropout(x + bias).

    Args:
        x: [..., W], the product of a linear layer without its bias. Where autograd allows it (`may_overwrite`), the
            bias is added to x itself: the caller must not use it any more.
        bias: [W], of the dtype of x.
        residual: as x.
        draw: the token of an element is the index over all dimensions but the last, its feature the last one's. Here
            torch's own generator draws instead, at the rate of `draw`.

    Returns:
        As x.
    """
    biased = x.add_(bias) if may_overwrite(x) else x + bias
    if draw.rate == 0.0:
        return residual + biased
    # the numbers that functional.dropout draws; scaling and sum are one pass instead of three
    kept = torch.empty_like(biased).bernoulli_(1.0 - draw.rate)
    return torch.addcmul(residual, biased, kept, value=1.0 / (1.0 - draw.rate))


def add_layer_norm(
    x: Tensor,
    bias: Tensor,
    residual: Tensor,
    weight: Tensor,
    shift: Tensor,
    draw: Draw = NO_DROPOUT,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """total = residual + dropout(x + bias), and the LayerNorm of the total.

    Args:
        x, bias, residual, draw: as in `add`.
        weight, shift, eps: as in `layer_norm`.

    Returns:
        The total and its LayerNorm, both as x.
    """
    total = add(x, bias, residual, draw)
    return total, layer_norm(total, weight, shift, eps)
