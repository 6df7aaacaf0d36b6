"""The classes of the cross entropy, divided over the tensor-parallel ranks as the token table is."""

from functools import partial

from hzlm.kernels.linear_cross_entropy import ClassShard
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
