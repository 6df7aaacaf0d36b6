"""Attention of one query a row over a cache of keys and values: what a decoder does at each position.

It is `hzlm.kernels.attention` for the last query alone: the cache holds what that query may see, so nothing is hidden
but what lies behind the end of a row. There is no gradient.
"""

import torch
from torch import Tensor


@torch.no_grad()
def cached_attention(query: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """softmax(query keys^T / sqrt(head size)) values over the first positions of each row; softmax in float32.

    Args:
        query: [rows, heads, head size].
        keys, values: [rows, length, heads, head size], of the dtype of query. What lies behind the end of a row counts
            for nothing, be it NaN.
        lengths: int32 [rows], on the CPU: how many positions a row sees, each in 0..length.

    Returns:
        [rows, heads, head size]; zeros in a row that sees nothing.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    hidden = torch.arange(keys.shape[1], device=keys.device) >= lengths.to(keys.device)[:, None]
    scores = torch.matmul(keys.transpose(1, 2).to(wide), query[:, :, :, None].to(wide)).squeeze(3)
    weights = (scores * query.shape[2] ** -0.5).masked_fill(hidden[:, None], -torch.inf).softmax(dim=-1)
    weights = weights.masked_fill(hidden[:, None], 0.0)
    seen = values.masked_fill(hidden[:, :, None, None], 0.0).transpose(1, 2)
    return torch.matmul(weights[:, :, None].to(wide), seen.to(wide)).squeeze(2).to(query.dtype)


def cached_attention_reference(query: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """The same as `cached_attention`, row by row as the definition reads, at the precision of its input."""
    out = torch.zeros_like(query)
    for row, length in enumerate(lengths.tolist()):
        scores = torch.einsum("hd,khd->hk", query[row], keys[row, :length]) * query.shape[2] ** -0.5
        out[row] = torch.einsum("hk,khd->hd", scores.softmax(dim=-1), values[row, :length])
    return out
