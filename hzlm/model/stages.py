"""Where the list of layers is cut into the stages of a pipeline."""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate

from hzlm.config import ModelConfig
from hzlm.model.encoder_decoder import plan_layers
from hzlm.model.flops import Work, count_flops
from hzlm.model.setup import Setup

# stage costs in descending order, and the first block of each stage but the first
Cut = tuple[tuple[int, ...], tuple[int, ...]]


def cut_stages(
    config: ModelConfig, targets: int, row_length: int, sides: int, stages: int, by_hand: Sequence[int] | None = None
) -> list[int]:
    """Stage s runs the layers bounds[s] to bounds[s + 1] of `plan_layers` and, as one more, the output projection.

    Cuts are made only before a block. So every stage has parameters: what stands before the first block stays with
    it, a final LayerNorm with the block before it, and the projection with the last block.

    Args:
        config: shape of the model.
        targets: tokens that the output projection chooses from (`Vocabulary.target_size`).
        row_length: positions of a packed row.
        sides: how many of encoder and decoder have a loss, so are projected.
        stages: from 1 to the number of blocks.
        by_hand: blocks of each stage, each at least 1, together all blocks; None: the largest stage shall cost as
            little as can be, then the second largest and so on, then early stages shall have few blocks: of the
            stages of a 1F1B pipeline the early ones keep the activations of the most micro-batches.

    Returns:
        stages + 1 bounds: 0, ..., the number of planned layers + 1.
    """
    plan = plan_layers(config, targets, 0, Setup())
    blocks = [number for number, layer in enumerate(plan) if "." in layer.name]
    if by_hand is None:
        _, firsts = _balance(_count_costs(config, targets, row_length, sides), stages)
    else:
        firsts = tuple(accumulate(by_hand[:-1]))
    return [0, *(blocks[first] for first in firsts), len(plan) + 1]


def _count_costs(config: ModelConfig, targets: int, row_length: int, sides: int) -> list[int]:
    """Operations of a training step on one row, by block; those of the projection are the last block's.

    The row counts as one sentence that fills it: attention over a packed row computes the scores of all its pairs.
    """
    flops = count_flops(config, targets, Work(row_length, row_length**2, decoder_targets=row_length))
    encoder, decoder = flops.encoder, flops.decoder + flops.cross_attention
    forward = [encoder // config.encoder_layers] * config.encoder_layers
    forward += [decoder // config.decoder_layers] * config.decoder_layers
    forward[-1] += sides * flops.output_projection
    return [3 * cost for cost in forward]


def _balance(costs: Sequence[int], stages: int) -> Cut:
    """The best cut of a list of costs, by dynamic programming over (first block, stages left)."""
    until = [0, *accumulate(costs)]

    @cache
    def best(first: int, left: int) -> Cut:
        if left == 1:
            return (until[-1] - until[first],), ()
        cuts: list[Cut] = []
        for end in range(first + 1, len(costs) - left + 2):
            rest, firsts = best(end, left - 1)
            cuts.append((tuple(sorted((until[end] - until[first], *rest), reverse=True)), (end, *firsts)))
        return min(cuts)

    return best(0, stages)
