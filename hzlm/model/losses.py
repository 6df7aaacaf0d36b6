"""The training loss on what the last layer hands over."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hzlm.config import LossConfig
from hzlm.kernels.linear_cross_entropy import linear_cross_entropy

# targets int64 [R, L]; weights float32 [2, R, L]: how much each position counts on the encoder and on the decoder. The
# encoder's are 0 where the source gives the character.
# They carry the normalisation: over a whole step each side's weights sum to the number of micro-batches.
Labels = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class SideLoss:
    """One side (encoder or decoder) of one micro-batch. `loss`: sum of weight x cross entropy, scalar float32.
    `counted`: positions that were asked for, since the source does not give the character; `correct`: those of them
    whose best logit is the target. `factor`: the share of this side in the total."""

    loss: Tensor
    correct: int
    counted: int
    factor: float


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
            places = weight.flatten().nonzero().squeeze(1)
            loss, correct = linear_cross_entropy(
                states.flatten(0, 1).index_select(0, places),
                table[self.target_start :],
                targets.flatten().index_select(0, places) - self.target_start,
                weight.flatten().index_select(0, places),
                self.smoothing,
            )
            asked = weights[0].flatten().index_select(0, places) > 0
            part = SideLoss(loss.detach(), int((correct & asked).sum()), int(asked.sum()), factor)
            self._taken.setdefault(side, []).append(part)
            total = total + factor * loss
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
