"""Scaled dot-product attention (Vaswani et al. 2017, equation 1) over packed rows, in plain torch.

A row holds several segments one after the other; a query sees only keys of its own segment, and with `causal`
only keys at or before its own position. Segment 0 is padding: nobody looks at what a query of it gets, which is
something finite here and zeros in the reference and on GPUs.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.kernels.dropout import NO_DROPOUT, Draw, kept_weights


def attention_bias(segments: Tensor, causal: bool, dtype: torch.dtype) -> Tensor:
    """What is added to the scores: 0 where a query may look, minus infinity where it may not.

    Args:
        segments: integer [rows, length], of queries and keys; equal numbers see each other.
        causal: also forbid keys that stand after the query.
        dtype: of the result, the dtype of the scores.

    Returns:
        [rows, 1, queries, keys], to be broadcast over heads.
    """
    allowed = segments[:, :, None] == segments[:, None, :]
    if causal:
        allowed = allowed.tril()
    seen, hidden = torch.tensor([0.0, -torch.inf], dtype=dtype, device=allowed.device)
    return torch.where(allowed, seen, hidden)[:, None]


def attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Tensor, causal: bool = False, draw: Draw = NO_DROPOUT
) -> Tensor:
    """softmax(query key^T / sqrt(head size)) value within each segment, differentiable.

    Two batched matrix products around a softmax: on CPUs, at the row lengths hzlm packs (32 to 128), forward and
    backward together take a third of the time of `scaled_dot_product_attention`.

    Args:
        query, key, value: [rows, length, heads, head size], of one dtype.
        segments: integer [rows, length]; the positions of a segment stand together.
        causal: whether a query sees no key behind it.
        draw: dropout of attention weights; here it is torch's own.

    Returns:
        [rows, length, heads, head size].
    """
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    scores = torch.matmul(query, key.transpose(-1, -2))
    bias = attention_bias(segments, causal, query.dtype)
    weights = torch.add(bias, scores, alpha=query.shape[-1] ** -0.5).softmax(dim=-1)
    if draw.rate > 0.0:
        weights = functional.dropout(weights, draw.rate)
    return torch.matmul(weights, value).transpose(1, 2)


def attention_reference(
    query: Tensor, key: Tensor, value: Tensor, segments: Tensor, causal: bool = False, draw: Draw = NO_DROPOUT
) -> Tensor:
    """The same as `attention`, term by term as the definition reads, with the dropout mask of `kept_weights`."""
    rows, length, heads, size = query.shape
    visible = (segments[:, :, None] == segments[:, None, :]) & (segments != 0)[:, :, None]
    if causal:
        visible = visible.tril()
    blind = ~visible.any(dim=-1, keepdim=True)
    scores = torch.einsum("rqhd,rkhd->rhqk", query, key) * size**-0.5
    weights = scores.masked_fill(~(visible | blind)[:, None], -torch.inf).softmax(dim=-1)
    weights = weights.masked_fill(blind[:, None], 0.0)
    if draw.rate > 0.0:
        weights = weights * kept_weights(draw, rows, heads, length) * draw.scale
    return torch.einsum("rhqk,rkhd->rqhd", weights, value)
