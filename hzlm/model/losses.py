"""The training loss on what the last layer hands over."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hzlm.config import LossConfig
from hzlm.model.contrastive import contrastive_loss
from hzlm.model.r_drop import divergence_loss
from hzlm.model.setup import Setup
from hzlm.parallel.collectives import enter, total
from hzlm.parallel.cross_entropy import class_shard
from hzlm.parallel.sharding import divide

# Of `hzlm.data.batches.MicroBatch`: targets int64 [R, L]; weights float32 [2, R, L]: how much each position counts on
# the encoder and on the decoder (the encoder's are 0 where the source gives the character); segments int32 [R, L];
# sentences int64 [R, L].
# Weights carry the normalisation: over a whole step each side's, those of all data-parallel ranks together, sum to the
# number of micro-batches times that of ranks.
Labels = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class PartLoss:
    """One part of the loss of the micro-batches of all data-parallel ranks.

    `loss`: mean over micro-batches and ranks; of "contrastive" over the sentences. `counted`: of "encoder" and
    "decoder" the positions that were asked for, since the source does not give the character; of "contrastive" the
    sentences. `correct`: those of them whose best logit is the target, or whose second view is the nearest one.
    `factor`: the weight of this part in the total.
    """

    loss: float
    correct: int
    counted: int
    factor: float


class TrainingLoss:
    """Weighted sum of its parts: what the pipeline engine calls on its last stage.

    The parts are the cross entropy of the encoder and of the decoder, the contrastive loss, and R-Drop. It keeps what
    each has contributed since the last `take`, for the log.
    """

    def __init__(self, config: LossConfig, vocabulary_size: int, target_start: int, setup: Setup | None = None):
        factors = {
            "encoder": config.encoder_weight,
            "decoder": config.decoder_weight,
            "contrastive": config.contrastive_weight,
            "r_drop": config.r_drop_weight,
        }
        self.factors = {part: factor for part, factor in factors.items() if factor > 0.0}
        self.smoothing = config.label_smoothing
        self.temperature = config.temperature
        self.target_start = target_start
        setup = setup or Setup()
        self._mesh = mesh = setup.mesh
        self._score = setup.kernels.linear_cross_entropy
        self._shard = class_shard(vocabulary_size - target_start, mesh)
        _, self._below = divide(target_start, mesh.tensor)
        self._taken: dict[str, list[Tensor]] = {part: [] for part in self.factors}

    def __call__(self, outputs: tuple[Tensor, Tensor], labels: Labels) -> Tensor:
        """outputs: hidden [2, R, L, W] and this rank's part of the token table -> scalar float32.

        With `split_rows` hidden has this rank's rows only; the labels always have all.
        """
        hidden, table = outputs
        # the layer behind the encoder has `entered` its output for all who read it, but not with split rows
        reads_encoder = not self.factors.keys().isdisjoint({"encoder", "contrastive"})
        encoded = enter(hidden[0], self._mesh) if self._mesh.split_rows and reads_encoder else hidden[0]
        decoded = enter(hidden[1], self._mesh) if "decoder" in self.factors else hidden[1]
        projection = table[self._below :]
        total = torch.zeros((), device=hidden.device)
        told: list[Tensor | int]
        for part, factor in self.factors.items():
            match part:
                case "encoder":
                    loss, *told = self._cross_entropy(encoded, projection, labels, 0)
                case "decoder":
                    loss, *told = self._cross_entropy(decoded, projection, labels, 1)
                case "contrastive":
                    _, _, segments, sentences = labels
                    loss, *told = contrastive_loss(encoded, segments, sentences, self.temperature, self._mesh)
                case _:
                    loss = divergence_loss(decoded, projection, labels[1][1], self._mesh.tensor)
                    told = [loss.detach(), 0, 0]
            values = [torch.as_tensor(value, device=hidden.device).double() for value in told]
            self._taken[part].append(torch.stack(values))
            total = total + factor * loss
        return total

    def _cross_entropy(
        self, states: Tensor, projection: Tensor, labels: Labels, side: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The loss of a side, also without gradient, how many positions asked for are right, and how many there are."""
        targets, weights, *_ = labels
        weight = weights[side].flatten()
        places = weight.nonzero().squeeze(1)
        loss, correct = self._score(
            states.flatten(0, 1).index_select(0, places),
            projection,
            targets.flatten().index_select(0, places) - self.target_start,
            weight.index_select(0, places),
            self.smoothing,
            self._shard,
        )
        asked = weights[0].flatten().index_select(0, places) > 0
        return loss, loss.detach(), (correct & asked).sum(), asked.sum()

    def take(self) -> dict[str, PartLoss]:
        """The sums over all micro-batches since the last call, by part; forgets them.

        With several ranks it is a collective call of all of them, and gives all the same. Those without the last stage
        contribute nothing.
        """
        mesh = self._mesh
        sums: list[float] = []
        for taken in self._taken.values():
            if taken and mesh.tensor.index == 0:
                sums += [*torch.stack(taken).sum(dim=0).tolist(), len(taken)]
            else:
                sums += [0.0] * 4
            taken.clear()
        sums = total(sums, mesh.world, mesh.device)
        found = {}
        for place, (part, factor) in enumerate(self.factors.items()):
            loss, correct, counted, batches = sums[4 * place : 4 * place + 4]
            # a micro-batch without sentences, as a measurement may have, has no contrastive loss
            number = counted if part == "contrastive" else batches
            found[part] = PartLoss(loss / max(1.0, number), int(correct), int(counted), factor)
        return found
