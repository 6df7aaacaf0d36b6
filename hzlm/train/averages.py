"""An exponential moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv 1703.01780).

Early in a run the decay is smaller, min(d, (1 + t) / (10 + t)) in step t, as in TensorFlow's
ExponentialMovingAverage: the average soon forgets the weights that the run began with.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class Averages:
    """The averages of float32 master weights, as flat tensors: of what ZeRO has given this rank of them."""

    def __init__(self, masters: Iterable[Tensor], decay: float) -> None:
        """masters: flat float32 tensors, whose values the averages start with. decay: above 0, below 1."""
        self._decay = decay
        self._averages = {master: master.detach().clone() for master in masters}

    def of(self, master: Tensor) -> Tensor:
        """The average of a flat tensor, in its shape. What is written there is averaged on from."""
        return self._averages[master]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """average <- average + (1 - d) (master - average), after a step. steps: of the optimizer, this one included."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for master, average in self._averages.items():
            average.lerp_(master.detach(), 1.0 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges masters and averages, bit by bit; a second time puts all back."""
        for master, average in self._averages.items():
            values = master.detach().clone()
            master.copy_(average)
            average.copy_(values)
