"""Contrastive loss: two views of one sentence are told from those of other sentences.

InfoNCE (van den Oord et al. 2018, arXiv 1807.03748, equation 4) on cosines, as of SimCLR (Chen et al. 2020, arXiv
2002.05709, equation 1), between means of encoder outputs. The negatives of a sentence are the second views of all other
sentences of one global micro-batch, those of all data-parallel ranks; sentences with the same text are none.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.parallel.collectives import gather_rows, highest, share_gradient, total
from hzlm.parallel.mesh import Mesh


class Contrast(NamedTuple):
    """What the sentences of this rank contribute in one micro-batch."""

    loss: Tensor
    """Scalar, float32 or wider: its mean over the data-parallel ranks is the mean over all sentences."""
    total: Tensor
    """The sum over this rank's sentences, without gradient."""
    found: Tensor
    """How many of them have their second view as the nearest, int64."""
    counted: int
    """How many there are."""


def contrastive_loss(states: Tensor, segments: Tensor, sentences: Tensor, temperature: float, mesh: Mesh) -> Contrast:
    """-log p(its second view | its first) of a sentence, and the same the other way round, halved.

    A collective call of the data-parallel ranks.

    Args:
        states: [R, L, W], encoder outputs, the same on all tensor-parallel ranks, which share their gradient. The rows
            2i and 2i + 1 hold two views of the same sentences.
        segments: int [R, L].
        sentences: int64 [R, L], a number for the text at each position that counts in a mean; 0 at all others.
        temperature: what cosines are divided by.
        mesh: of this rank.
    """
    states = share_gradient(states, mesh.tensor)
    first, numbers = pool_sentences(states[::2], segments[::2], sentences[::2])
    second, _ = pool_sentences(states[1::2], segments[1::2], sentences[1::2])
    own = len(numbers)
    room = highest(own, mesh.data, mesh.device)
    (everywhere,) = total([own], mesh.data, mesh.device)
    if everywhere == 0:
        nothing = first.sum() + second.sum()  # of no sentences: 0, with a gradient of 0
        return Contrast(nothing, nothing.detach(), numbers.new_zeros(()), 0)
    first, second = (functional.normalize(vectors, dim=1) for vectors in (first, second))
    padding = (0, 0, 0, room - own)
    all_first, all_second = (gather_rows(functional.pad(vectors, padding), mesh.data) for vectors in (first, second))
    all_numbers = gather_rows(functional.pad(numbers, padding[2:]), mesh.data)
    places = torch.arange(own, device=states.device)
    positives = mesh.data.index * room + places
    excluded = (all_numbers == 0) | (all_numbers == numbers[:, None])
    excluded[places, positives] = False
    forth, back = (
        (anchors @ others.T / temperature).masked_fill(excluded, -torch.inf)
        for anchors, others in ((first, all_second), (second, all_first))
    )
    losses = [functional.cross_entropy(similarity, positives, reduction="sum") for similarity in (forth, back)]
    summed = (losses[0] + losses[1]) / 2
    found = (forth.argmax(dim=1) == positives).sum()
    return Contrast(summed * (mesh.data.size / everywhere), summed.detach(), found, own)


def pool_sentences(states: Tensor, segments: Tensor, sentences: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over each sentence: float32 or wider, [n, W] in the order they lie in, and its number, int64 [n].

    By products with matrices of 0 and 1, whose gradient is the same each time on a GPU, as that of scattered sums is
    not.

    Args:
        states: [R, L, W].
        segments, sentences: as of `contrastive_loss`.
    """
    places = torch.arange(1, int(segments.amax()) + 1, device=segments.device)
    members = (segments[:, None] == places[:, None]) & (sentences != 0)[:, None]  # [R, S, L]
    lengths = members.sum(dim=2)
    wide = torch.promote_types(states.dtype, torch.float32)
    means = members.to(wide) @ states.to(wide) / lengths.clamp(min=1)[:, :, None]
    lowest = torch.iinfo(torch.int64).min
    numbers = torch.where(members, sentences[:, None], lowest).amax(dim=2)
    return means[lengths > 0], numbers[lengths > 0]
