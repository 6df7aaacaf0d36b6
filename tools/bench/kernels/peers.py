"""Other people's kernels for what ours do, where they are installed; each raises ImportError where it is not.

Liger-Kernel (Hsu et al. 2024, arXiv 2410.10989) and FlashAttention (Dao 2023, arXiv 2307.08691).
"""

from functools import cache
from importlib import import_module

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.kernels.dropout import Draw

LIGER = "liger_kernel.transformers.functional"


def liger_layer_norm(x: Tensor, weight: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """LayerNorm of x [tokens, W]."""
    normal: Tensor = import_module(LIGER).liger_layer_norm(x, weight, shift, eps)
    return normal


def liger_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """The mean loss; as in ours, the gradient takes the place of the logits [positions, classes]."""
    loss: Tensor = import_module(LIGER).liger_cross_entropy(logits, targets, label_smoothing=smoothing)
    return loss


def liger_linear_cross_entropy(hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """The mean loss of the logits hidden @ table^T."""
    loss: Tensor = import_module(LIGER).liger_fused_linear_cross_entropy(hidden, table, targets)
    return loss


def flash_attention(query: Tensor, key: Tensor, value: Tensor, segments: Tensor, causal: bool, draw: Draw) -> Tensor:
    """Attention of [rows, length, heads, head size] within segments; a run of padding is a segment, too."""
    attend = import_module("flash_attn").flash_attn_varlen_func
    borders, longest = find_borders(segments)
    flat = (x.flatten(0, 1) for x in (query, key, value))
    mixed: Tensor = attend(*flat, borders, borders, longest, longest, draw.rate, causal=causal)
    return mixed.view(query.shape)


@cache
def find_borders(segments: Tensor) -> tuple[Tensor, int]:
    """Where segments [rows, length] begin in the flattened rows, and where the last one ends: int32; the longest one.

    Training would find it once for a batch, so that it is kept for a tensor.
    """
    changes = functional.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
    starts = changes.flatten().nonzero().flatten()
    borders = torch.cat([starts, starts.new_tensor([segments.numel()])]).int()
    return borders, int(borders.diff().max())
