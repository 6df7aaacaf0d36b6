"""What a model would say at each position, the right history given."""

import torch
from torch import Tensor

from hzlm.model.losses import Labels
from hzlm.model.setup import Setup
from hzlm.parallel.collectives import enter
from hzlm.parallel.cross_entropy import class_shard, find_best
from hzlm.parallel.sharding import divide


class Predictor:
    """Stands in the place of the loss in a pass without gradients, and keeps what the decoder finds likeliest."""

    def __init__(self, vocabulary_size: int, target_start: int, setup: Setup):
        self._target_start = target_start
        self._mesh = setup.mesh
        self._shard = class_shard(vocabulary_size - target_start, setup.mesh)
        _, self._below = divide(target_start, setup.mesh.tensor)
        self._found: list[Tensor] = []

    def __call__(self, outputs: tuple[Tensor, Tensor], labels: Labels) -> Tensor:
        """outputs and labels as of `TrainingLoss` -> 0, scalar float32."""
        hidden, table = outputs
        weights = labels[1][1]
        places = weights.flatten().nonzero().squeeze(1)
        states = enter(hidden[1], self._mesh).flatten(0, 1).index_select(0, places)
        ids = torch.zeros(weights.numel(), dtype=torch.int64, device=hidden.device)
        ids[places] = self._target_start + find_best(states, table[self._below :], self._shard)
        self._found.append(ids.view(weights.shape))
        return torch.zeros((), device=hidden.device)

    def take(self) -> list[Tensor]:
        """Of each micro-batch since the last call token ids, int64 [R, L], 0 where none is asked for; forgets them.

        Empty on ranks that do not hold the last layer.
        """
        found, self._found = self._found, []
        return found
