"""Contrastive loss: two views of one sentence are told from those of other sentences.

InfoNCE (van den Oord et al. 2018, arXiv 1807.03748, equation 4) on cosines, as of SimCLR (Chen et al. 2020, arXiv
2002.05709, equation 1), between means of encoder outputs. The negatives of a sentence are the second views of all other
sentences of one global micro-batch, those of all data-parallel ranks; sentences with the same text are none.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.parallel.collectives import gather_rows, highest, share_gradient, total
from hzlm.parallel.mesh import Mesh


def contrastive_loss(
    states: Tensor, segments: Tensor, sentences: Tensor, temperature: float, mesh: Mesh
) -> tuple[Tensor, Tensor, int]:
    """The loss of the sentences of this rank; a collective call of the data-parallel ranks.

    Args:
        states: [R, L, W], encoder outputs, the same on all tensor-parallel ranks, which share their gradient. The rows
            2i and 2i + 1 hold two views of the same sentences.
        segments: int [R, L].
        sentences: int64 [R, L], a number for the text at each position that counts in a mean; 0 at all others.
        temperature: what cosines are divided by.
        mesh: of this rank.

    Returns:
        The loss, scalar float32: the mean over the data-parallel ranks is that over all sentences of the global
        micro-batch of -log p(its second view | its first) and the same the other way round, halved. Then how many of
        this rank's sentences have their second view as the nearest, and how many there are.
    """
    states = share_gradient(states, mesh.tensor)
    first, numbers = pool_sentences(states[::2], segments[::2], sentences[::2])
    second, _ = pool_sentences(states[1::2], segments[1::2], sentences[1::2])
    own = len(numbers)
    room = highest(own, mesh.data, mesh.device)
    (everywhere,) = total([own], mesh.data, mesh.device)
    if everywhere == 0:
        return states.sum() * 0.0, torch.zeros((), dtype=torch.int64, device=states.device), 0
    first, second = (functional.normalize(vectors, dim=1) for vectors in (first, second))
    padding = (0, 0, 0, room - own)
    all_first, all_second = (gather_rows(functional.pad(vectors, padding), mesh.data) for vectors in (first, second))
    all_numbers = gather_rows(functional.pad(numbers, padding[2:]), mesh.data)
    positives = mesh.data.index * room + torch.arange(own, device=states.device)
    excluded = (all_numbers == 0) | (all_numbers == numbers[:, None])
    excluded[torch.arange(own, device=states.device), positives] = False
    losses = []
    for anchors, others in ((first, all_second), (second, all_first)):
        similarity = (anchors @ others.T / temperature).masked_fill(excluded, -torch.inf)
        losses.append(functional.cross_entropy(similarity, positives, reduction="sum"))
        if anchors is first:
            found = (similarity.argmax(dim=1) == positives).sum()
    return (losses[0] + losses[1]) * (mesh.data.size / (2 * everywhere)), found, own


def pool_sentences(states: Tensor, segments: Tensor, sentences: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over each sentence: float32 or wider, [n, W], in the order they lie in, and its number, int64 [n].

    Args:
        states: [R, L, W].
        segments, sentences: as of `contrastive_loss`.
    """
    counted = sentences != 0
    before = functional.pad(segments, (1, 0))[:, :-1]
    counted_before = functional.pad(counted, (1, 0))[:, :-1]
    starts = counted & ((segments != before) | ~counted_before)
    owner = (starts.flatten().cumsum(0) - 1)[counted.flatten()]
    numbers = sentences[starts]
    wide = torch.promote_types(states.dtype, torch.float32)
    sums = states.new_zeros((len(numbers), states.shape[2]), dtype=wide)
    sums = sums.index_add(0, owner, states[counted].to(wide))
    lengths = torch.bincount(owner, minlength=len(numbers))
    return sums / lengths[:, None], numbers
