"""The first layer: the vector of each token and the vector of its place, added, then dropout."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.kernels.dropout import NO_DROPOUT, Draw, kept_features


def embed_reference(
    tokens: Tensor, table: Tensor, places: Tensor, place_tables: Sequence[Tensor], draw: Draw = NO_DROPOUT
) -> Tensor:
    """The same as `embed`, term by term, with the mask of the kernels."""
    return add_places_reference(table[tokens], places, place_tables, draw)


def add_places_reference(
    vectors: Tensor, places: Tensor, place_tables: Sequence[Tensor], draw: Draw = NO_DROPOUT
) -> Tensor:
    """The same as `add_places`, term by term, with the mask of the kernels."""
    result = vectors + torch.stack([table[places] for table in place_tables])
    if draw.rate > 0.0:
        sequences, *shape, width = result.shape
        numbered = replace(draw, row=sequences * draw.row)
        kept = kept_features(numbered, result.shape[:-1].numel(), width).view(*shape, sequences, width).movedim(-2, 0)
        result = torch.where(kept, result * draw.scale, 0.0)
    return result


def embed(
    tokens: Tensor, table: Tensor, places: Tensor, place_tables: Sequence[Tensor], draw: Draw = NO_DROPOUT
) -> Tensor:
    """out[s, r, l] = dropout(table[tokens[s, r, l]] + place_tables[s][places[r, l]]), differentiable.

    Args:
        tokens: int64 [S, R, L].
        table: [V, W].
        places: int64 [R, L], the place of each position in its segment, the same in all sequences.
        place_tables: a [P, W] for each of the S sequences, of the dtype of the table.
        draw: its rate; the mask is torch's own, on GPUs that of `hzlm.kernels.dropout`, where the token of (s, r, l) is
            S * (draw.row + r * L + l) + s: the sequences in turn, so that a part of the rows has its numbers in the
            whole.

    Returns:
        [S, R, L, W].

    Raises:
        IndexError: an index outside its table.
    """
    return add_places(functional.embedding(tokens, table), places, place_tables, draw)


def add_places(vectors: Tensor, places: Tensor, place_tables: Sequence[Tensor], draw: Draw = NO_DROPOUT) -> Tensor:
    """As `embed`, of token vectors [S, R, L, W] that have been found already, as where ranks share the table."""
    result = vectors + torch.stack([functional.embedding(places, table) for table in place_tables])
    return functional.dropout(result, draw.rate) if draw.rate > 0.0 else result
