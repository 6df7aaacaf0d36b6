"""The classes of the cross entropy, divided over the tensor-parallel ranks as the token table is."""

from functools import partial

import torch
from torch import Tensor

from hzlm.kernels.linear_cross_entropy import POSITIONS_AT_ONCE, ClassShard
from hzlm.parallel.collectives import all_gather
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import divide


def class_shard(classes: int, mesh: Mesh) -> ClassShard | None:
    """Which classes this rank's part of the token table holds (`divide_table`); None where it holds all.

    Args:
        classes: tokens that are ever predicted; class c is the token target_start + c.
        mesh: of this rank.
    """
    if mesh.tensor.size == 1:
        return None
    start, _ = divide(classes, mesh.tensor)
    return ClassShard(start, classes, partial(all_gather, axis=mesh.tensor))


def find_best(states: Tensor, table: Tensor, shard: ClassShard | None) -> Tensor:
    """The class with the largest logit of each position, the first of equal ones.

    Args:
        states: [positions, W], the same on all ranks.
        table: [classes of this rank, W].
        shard: which classes these are; None: all.

    Returns:
        int64 [positions], the same on all ranks. No gradient flows.
    """
    pairs = [(part @ table.T).max(dim=1) for part in states.detach().split(POSITIONS_AT_ONCE)]
    values, classes = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    if shard is None:
        return classes
    all_values, all_classes = shard.gather(values.float()), shard.gather(classes + shard.start)
    return all_classes.gather(0, all_values.max(dim=0).indices[None])[0]
