"""Gradient noise scale (McCandlish et al. 2018, arXiv 1812.06162): how large a batch is worth its while.

The simple noise scale is tr(Sigma) / |G|^2 (equation 2.9), with G the true gradient and Sigma the covariance of the
gradient of one position. Batches far below it lose little by growing, batches far above it waste positions.

One process has but one gradient a step, and those of two consecutive steps are not independent: the noise of the
first has moved the weights that the second is taken at, and their product turns negative once the loss has flattened.
So the rows of a step are cut into parts, and the gradient of each part is taken at the same weights, beside training.
Data-parallel ranks have as many parts each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hzlm.parallel.collectives import all_reduce, total
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import sharding_of

PARTS = 4
"""Parts that the rows of a step are cut into."""
MEMORY = 0.8
"""Weight of what was known before in the running averages; a new measurement has the rest."""


@dataclass(frozen=True)
class NoiseScale:
    """Running averages over the measurements of a run, in the gradient's unit squared. A checkpoint stores them."""

    signal: float = 0.0
    """|G|^2."""
    noise: float = 0.0
    """tr(Sigma)."""

    def updated(self, measured: "NoiseScale") -> "NoiseScale":
        """The averages with one more measurement. Both start at 0, and their ratio needs no correction for it."""
        return NoiseScale(
            MEMORY * self.signal + (1.0 - MEMORY) * measured.signal,
            MEMORY * self.noise + (1.0 - MEMORY) * measured.noise,
        )

    @property
    def positions(self) -> float | None:
        """The noise scale as a batch size in positions; None as long as the signal is lost in the noise."""
        return self.noise / self.signal if self.signal > 0.0 and self.noise > 0.0 else None


def measure_noise(
    gradients: Iterable[Sequence[Tensor]], positions: float, parameters: Sequence[Tensor], mesh: Mesh
) -> NoiseScale:
    """|G|^2 and tr(Sigma), neither biased, from gradients of equally large parts of a batch (appendix A.1).

    With R parts of b positions, the mean of their |g_i|^2 is |G|^2 + tr(Sigma) / b on average, and the |g|^2 of their
    mean gradient |G|^2 + tr(Sigma) / (R b). A collective call of the ranks of a stage, whose parts all count.

    Args:
        gradients: of two parts or more, each the gradient of the mean loss of a part, as one tensor a parameter.
            Only their sum is kept while they are gone through.
        positions: b, mean over this rank's parts.
        parameters: what the gradients are of; of one that is whole on several tensor-parallel ranks one of them counts.
        mesh: of this rank, which has no other stages.
    """
    counted = [mesh.tensor.index == 0 or sharding_of(parameter) is not None for parameter in parameters]

    def square(tensors: Iterable[Tensor]) -> float:
        return sum(float(part.square().sum()) for part, counts in zip(tensors, counted, strict=True) if counts)

    sums = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
    small = 0.0
    parts = 0
    for part in gradients:
        parts += 1
        whole = [
            _whole(gradient.float(), parameter, mesh) for gradient, parameter in zip(part, parameters, strict=True)
        ]
        small += square(whole)
        torch._foreach_add_(sums, whole)
    for gradient in sums:
        all_reduce(gradient, mesh.data)
    small, positions = total([small, positions / mesh.tensor.size], mesh.stage, mesh.device)
    parts *= mesh.data.size
    small /= parts
    positions /= mesh.data.size
    (large,) = total([square(sums) / parts**2], mesh.tensor, mesh.device)
    return NoiseScale(
        signal=(parts * large - small) / (parts - 1),
        noise=positions * parts * (small - large) / (parts - 1),
    )


def _whole(gradient: Tensor, parameter: Tensor, mesh: Mesh) -> Tensor:
    """With `split_rows` the gradient of what is not sharded is that of this rank's rows only."""
    if mesh.split_rows and sharding_of(parameter) is None:
        return all_reduce(gradient.clone(), mesh.tensor)
    return gradient
