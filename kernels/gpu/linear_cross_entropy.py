"""Output projection and cross entropy on a GPU: torch's matrix products, and the kernels of `cross_entropy` between.

A chunk is some eight launches, and ends with the reading and writing of the table's gradient in float32 (57 MB of 7,000
classes by 1,024). With 4,096 positions its products are work enough for all multiprocessors and take many times as
long as either. Its logits, 57 MB in bf16, are more than the level-2 cache of an A100 holds (40 MB), so they go through
memory; those of 1,024 positions would stay in it, but products that small leave multiprocessors idle and the table's
gradient would move four times as often.
"""

from torch import Tensor

from hzlm.kernels.checks import check_float, check_like
from hzlm.kernels.cross_entropy import ClassShard, CrossEntropy
from hzlm.kernels.gpu.cross_entropy import check_labels, cross_entropy
from hzlm.kernels.linear_cross_entropy import Scoring, score_in_chunks

POSITIONS_AT_ONCE = 4096
ALIGNMENT = 64
"""Rows of logits start at a multiple of 128 bytes, a line of the cache, whatever the number of classes."""


def linear_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float = 0.0,
    shard: ClassShard | None = None,
) -> CrossEntropy:
    """As `hzlm.kernels.linear_cross_entropy.linear_cross_entropy`.

    Args:
        hidden: fp16, bf16 or fp32 [positions, hidden size].
        table: [classes of this rank, hidden size], same dtype; one class at least.
        targets: int64 [positions], classes: others make the loss NaN, where no shard is given.
        weights: float32 [positions].
        smoothing: in [0, 1).
        shard: which classes `table` holds.

    Raises:
        ValueError: an argument does not fit; it is named.
    """
    check_float("hidden", hidden, 2)
    check_float("table", table, 2)
    check_like("table", table, (max(len(table), 1), hidden.shape[1]), hidden)
    check_labels(hidden, targets, weights, smoothing)
    scoring = Scoring(cross_entropy, POSITIONS_AT_ONCE, ALIGNMENT)
    return score_in_chunks(hidden, table, targets, weights, smoothing, shard, scoring)
