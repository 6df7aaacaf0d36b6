"""Gradient noise scale (McCandlish et al. 2018, arXiv 1812.06162): how large a batch is worth its while.

The simple noise scale is tr(Sigma) / |G|^2 (equation 2.9), with G the true gradient and Sigma the covariance of the
gradient of one position. Batches far below it lose little by growing, batches far above it waste positions.

One process has but one gradient a step, and those of two consecutive steps are not independent: the noise of the
first has moved the weights that the second is taken at, and their product turns negative once the loss has flattened.
So the rows of a step are cut into parts, and the gradient of each part is taken at the same weights, beside training.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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


def measure_noise(gradients: Iterable[Sequence[Tensor]], positions: float) -> NoiseScale:
    """|G|^2 and tr(Sigma), neither biased, from gradients of equally large parts of a batch (appendix A.1).

    With R parts of b positions, the mean of their |g_i|^2 is |G|^2 + tr(Sigma) / b on average, and the |g|^2 of their
    mean gradient |G|^2 + tr(Sigma) / (R b).

    Args:
        gradients: of two parts or more, each the gradient of the mean loss of a part, as one tensor a parameter.
            Only their sum is kept while they are gone through.
        positions: b.
    """
    total: list[Tensor] = []
    small = 0.0
    parts = 0
    for part in gradients:
        parts += 1
        small += sum(float(gradient.float().square().sum()) for gradient in part)
        if total:
            torch._foreach_add_(total, [gradient.float() for gradient in part])
        else:
            total = [gradient.to(torch.float32, copy=True) for gradient in part]
    small /= parts
    large = sum(float(gradient.square().sum()) for gradient in total) / parts**2
    return NoiseScale(
        signal=(parts * large - small) / (parts - 1),
        noise=positions * parts * (small - large) / (parts - 1),
    )
