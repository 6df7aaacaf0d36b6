"""The training loss on what the last layer hands over."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hzlm.config import LossConfig
from hzlm.model.setup import Setup
from hzlm.parallel.collectives import enter, total
from hzlm.parallel.cross_entropy import class_shard
from hzlm.parallel.sharding import divide

# targets int64 [R, L]; weights float32 [2, R, L]: how much each position counts on the encoder and on the decoder. The
# encoder's are 0 where the source gives the character.
# They carry the normalisation: over a whole step each side's weights, those of all data-parallel ranks together, sum
# to the number of micro-batches times that of ranks.
Labels = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class SideLoss:
    """One side (encoder or decoder) of the micro-batches of all data-parallel ranks.

    `loss`: mean over micro-batches and ranks of the sum of weight x cross entropy. `counted`: positions that were asked
    for, since the source does not give the character; `correct`: those of them whose best logit is the target.
    `factor`: the share of this side in the total.
    """

    loss: float
    correct: int
    counted: int
    factor: float


class TrainingLoss:
    """Weighted sum of the encoder's and the decoder's cross entropy: what the pipeline engine calls on its last stage.

    It keeps what each side contributed since the last `take`, for the log.
    """

    def __init__(self, config: LossConfig, vocabulary_size: int, target_start: int, setup: Setup | None = None):
        factors = {"encoder": config.encoder_weight, "decoder": config.decoder_weight}
        self.factors = {side: factor for side, factor in factors.items() if factor > 0.0}
        self.smoothing = config.label_smoothing
        self.target_start = target_start
        setup = setup or Setup()
        self._mesh = mesh = setup.mesh
        self._score = setup.kernels.linear_cross_entropy
        self._shard = class_shard(vocabulary_size - target_start, mesh)
        _, self._below = divide(target_start, mesh.tensor)
        self._taken: dict[str, list[Tensor]] = {side: [] for side in self.factors}

    def __call__(self, outputs: tuple[Tensor, Tensor], labels: Labels) -> Tensor:
        """outputs: hidden [2, R, L, W] and this rank's part of the token table -> scalar float32.

        With `split_rows` hidden has this rank's rows only; the labels always have all.
        """
        hidden, table = outputs
        targets, weights = labels
        total = torch.zeros((), device=hidden.device)
        for side, factor in self.factors.items():
            number = 1 if side == "decoder" else 0
            states = hidden[number]
            # the layer behind the encoder has `entered` its output for all who read it, but not with split rows
            if side == "decoder" or self._mesh.split_rows:
                states = enter(states, self._mesh)
            weight = weights[number].flatten()
            places = weight.nonzero().squeeze(1)
            loss, correct = self._score(
                states.flatten(0, 1).index_select(0, places),
                table[self._below :],
                targets.flatten().index_select(0, places) - self.target_start,
                weight.index_select(0, places),
                self.smoothing,
                self._shard,
            )
            asked = weights[0].flatten().index_select(0, places) > 0
            self._taken[side].append(torch.stack([loss.detach(), (correct & asked).sum(), asked.sum()]).double())
            total = total + factor * loss
        return total

    def take(self) -> dict[str, SideLoss]:
        """The sums over all micro-batches since the last call, by side; forgets them.

        With several ranks it is a collective call of all of them, and gives all the same. Those without the last stage
        contribute nothing.
        """
        mesh = self._mesh
        sums: list[float] = []
        for taken in self._taken.values():
            if taken and mesh.tensor.index == 0:
                loss, correct, counted = torch.stack(taken).sum(dim=0).tolist()
                sums += [loss / (len(taken) * mesh.data.size), correct, counted]
            else:
                sums += [0.0] * 3
            taken.clear()
        sums = total(sums, mesh.world, mesh.device)
        return {
            side: SideLoss(sums[3 * place], int(sums[3 * place + 1]), int(sums[3 * place + 2]), factor)
            for place, (side, factor) in enumerate(self.factors.items())
        }
