"""What the layers of a process are built with, beside their shape."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.kernels.faces import TORCH, Kernels
from hzlm.model.recompute import Recompute
from hzlm.parallel.mesh import ALONE, Mesh
from hzlm.parallel.random import Draws, Passage


@dataclass(frozen=True)
class Setup:
    """Everything that is one for all layers."""

    mesh: Mesh = ALONE
    recompute: Recompute = "none"
    kernels: Kernels = TORCH
    draws: Draws = field(default_factory=Draws)
    """Of the training that the layers take part in."""

    def begin_pass(self, layer: str, training: bool) -> Passage | None:
        """What a layer draws dropout from in this forward pass; None where it does not train."""
        return self.draws.begin_pass(layer) if training else None

    def draw_outside(self, passage: Passage | None, site: str, rate: float, x: Tensor) -> Draw:
        """The dropout of x [rows, length, W], where a rank has all features: with `split_rows`, of its own rows."""
        if passage is None or rate == 0.0:
            return NO_DROPOUT
        rows, length, _ = x.shape
        share = self.mesh.data.index
        if self.mesh.split_rows:
            share = share * self.mesh.tensor.size + self.mesh.tensor.index
        return Draw(rate, passage.derive_seed(site), share * rows * length)

    def draw_features(self, passage: Passage | None, site: str, rate: float, x: Tensor) -> Draw:
        """The dropout of x [rows, length, F], where a rank has all rows and its part of the features."""
        if passage is None or rate == 0.0:
            return NO_DROPOUT
        rows, length, width = x.shape
        first = self.mesh.data.index * rows * length
        return Draw(rate, passage.derive_seed(site), first, self.mesh.tensor.index * width)

    def draw_weights(self, passage: Passage | None, site: str, rate: float, query: Tensor) -> Draw:
        """The dropout of the attention weights of query [rows, length, heads, size]: all rows, this rank's heads."""
        if passage is None or rate == 0.0:
            return NO_DROPOUT
        rows, _, heads, _ = query.shape
        return Draw(rate, passage.derive_seed(site), self.mesh.data.index * rows, self.mesh.tensor.index * heads)

    def normalise(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """LayerNorm of x [..., W]."""
        return self.kernels.layer_norm(x, norm.weight, norm.bias, norm.eps)
