"""The token table divided over the tensor-parallel ranks.

Only the ids from `target_start` on are ever predicted. So each rank has a part of them and a part of the others: the
output projection, which costs most by far, is then as large on every rank. Shards may differ by a row; none is padded.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.parallel.collectives import leave
from hzlm.parallel.mesh import Axis, Mesh
from hzlm.parallel.sharding import Sharding, divide, offsets, sharding_of


def divide_table(rows: int, target_start: int, hidden_size: int, axis: Axis) -> Sharding:
    """The part of the token table [rows, hidden size] that a rank holds: some ids below target_start, some targets."""
    start, size = divide(rows - target_start, axis)
    return Sharding((rows, hidden_size), 0, (divide(target_start, axis), (target_start + start, size)))


def embed_parallel(tokens: Tensor, table: Tensor, mesh: Mesh) -> Tensor:
    """The vectors of tokens, each from the rank that has it (Shoeybi et al. 2019, section 3).

    Args:
        tokens: int64 [rows, ...], the same on all tensor-parallel ranks.
        table: this rank's part of the table, which says what part it is.
        mesh: of this rank.

    Returns:
        [rows, ..., hidden size], with `split_rows` of this rank's own rows.
    """
    sharding = sharding_of(table)
    assert sharding is not None
    local = torch.full_like(tokens, -1)
    for (start, size), offset in zip(sharding.pieces, offsets(sharding), strict=True):
        inside = (tokens >= start) & (tokens < start + size)
        local = torch.where(inside, tokens - start + offset, local)
    vectors = functional.embedding(local.clamp(min=0), table).masked_fill((local < 0)[..., None], 0.0)
    return leave(vectors, mesh)
