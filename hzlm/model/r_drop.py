"""R-Drop (Liang et al. 2021, arXiv 2106.14448): two passes with different dropout shall say the same.

Its loss beside the cross entropy is alpha / 2 (KL(p1 | p2) + KL(p2 | p1)) (equation 4). Here both passes are rows of
one micro-batch, whose cross entropy is the mean of the two, where the paper adds them up: `loss.r_drop_weight` is half
of its alpha.
"""

from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hzlm.parallel.collectives import gather_rows, sum_parts
from hzlm.parallel.mesh import Axis

CHUNK = 512
"""Positions whose logits are held at once."""


def divergence_loss(states: Tensor, table: Tensor, weights: Tensor, axis: Axis) -> Tensor:
    """Sum over positions of weight x (KL(p1 | p2) + KL(p2 | p1)) / 2.

    Args:
        states: [R, L, W], decoder outputs, `enter`ed; rows 2i and 2i + 1 are two passes of the same row.
        table: [classes of this rank, W], the output projection.
        weights: float [R, L], what each position counts; those of a pair of rows are equal.
        axis: of the tensor-parallel ranks, which have parts of the classes.

    Returns:
        Scalar float32, the same on all these ranks; the two rows of a pair count with the sum of their weights.
    """
    places = weights[::2].flatten().nonzero().squeeze(1)
    pair_weights = (weights[::2] + weights[1::2]).flatten().index_select(0, places)
    first, second = (rows.flatten(0, 1).index_select(0, places) for rows in (states[::2], states[1::2]))
    loss = torch.zeros((), device=states.device)
    parts = (first.split(CHUNK), second.split(CHUNK), pair_weights.split(CHUNK))
    for one, other, weight in zip(*parts, strict=True):
        loss = loss + checkpoint(partial(_sum_divergence, axis=axis), one, other, table, weight, use_reentrant=False)
    return loss


def _sum_divergence(first: Tensor, second: Tensor, table: Tensor, weight: Tensor, axis: Axis) -> Tensor:
    """KL(p | q) + KL(q | p) = sum (p - q)(log p - log q), of [S, W] twice."""
    wide = torch.promote_types(first.dtype, torch.float32)
    log_p, log_q = (_log_softmax((states @ table.T).to(wide), axis) for states in (first, second))
    terms = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=1)
    return sum_parts((0.5 * weight * terms).sum(), axis)


def _log_softmax(logits: Tensor, axis: Axis) -> Tensor:
    """Over the classes of all ranks: float32 [S, classes of this rank]."""
    own = logits.logsumexp(dim=1)
    return logits - gather_rows(own, axis).view(axis.size, -1).logsumexp(dim=0)[:, None]
