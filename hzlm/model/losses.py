"""The training loss on what the last layer hands over."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hzlm.config import LossConfig
from hzlm.kernels.linear_cross_entropy import linear_cross_entropy

# targets int64 [R, L]; weights float32 [2, R, L]: how much each position counts on the encoder and on the decoder.
# They carry the normalisation: over a whole step each side's weights sum to the number of micro-batches.
Labels = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class SideLoss:
    """One side (encoder or decoder) of one micro-batch. `loss`: sum of weight x cross entropy, scalar float32.
    `correct`, `counted`: positions whose best logit is the target, and positions that count. `factor`: the share of
    this side in the total."""

    loss: Tensor
    correct: int
    counted: int
    factor: float


def side_loss(
    hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor, target_start: int, smoothing: float, factor: float
) -> SideLoss:
    """Cross entropy over the target ids, at the positions with a weight.

    Args:
        hidden: [R, L, W], one side's output. table: [vocabulary size, W].
        targets: int64 [R, L], token ids. weights: float32 [R, L], 0 where a position does not count.
    """
    places = weights.flatten().nonzero().squeeze(1)
    loss, correct = linear_cross_entropy(
        hidden.flatten(0, 1).index_select(0, places),
        table[target_start:],
        targets.flatten().index_select(0, places) - target_start,
        weights.flatten().index_select(0, places),
        smoothing,
    )
    return SideLoss(loss, int(correct.sum()), len(places), factor)


class TrainingLoss:
    """Weighted sum of the encoder's and the decoder's cross entropy: what the pipeline engine calls on its last stage.

    It keeps what each side contributed since the last `take`, for the log.
    """

    def __init__(self, config: LossConfig, target_start: int):
        self.factors = {"encoder": config.encoder_weight, "decoder": config.decoder_weight}
        self.smoothing = config.label_smoothing
        self.target_start = target_start
        self._taken: dict[str, list[SideLoss]] = {}

    def __call__(self, outputs: tuple[Tensor, Tensor], labels: Labels) -> Tensor:
        """outputs: hidden [2, R, L, W] and the token table -> scalar float32."""
        hidden, table = outputs
        targets, weights = labels
        total = torch.zeros((), device=hidden.device)
        for side, states, weight in zip(self.factors, hidden.unbind(0), weights, strict=True):
            factor = self.factors[side]
            if factor == 0.0:
                continue
            part = side_loss(states, table, targets, weight, self.target_start, self.smoothing, factor)
            self._taken.setdefault(side, []).append(replace(part, loss=part.loss.detach()))
            total = total + factor * part.loss
        return total

    def take(self) -> dict[str, SideLoss]:
        """The sums over all micro-batches since the last call, by side; forgets them."""
        taken, self._taken = self._taken, {}
        return {
            side: SideLoss(
                torch.stack([part.loss for part in parts]).mean(),
                sum(part.correct for part in parts),
                sum(part.counted for part in parts),
                self.factors[side],
            )
            for side, parts in taken.items()
        }
