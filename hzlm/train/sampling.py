"""Scheduled sampling (Bengio et al. 2015, arXiv 1506.03099): the decoder learns to go on from its own mistakes.

A decoder that reads all positions at once cannot be fed as it goes: as in Mihaylova & Martins 2019 (arXiv 1906.07651),
a first pass with the right history says what it would predict, and a second one is trained on a mixture of both.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hzlm.config import SamplingConfig
from hzlm.data.batches import MicroBatch
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.random import make_generator


def predicted_share(config: SamplingConfig, step: int) -> float:
    """The share of the decoder's inputs that are its predictions: 1 - epsilon of the paper, section 2.4.

    With h = `half_steps` and i = step - 1: linear, epsilon = 1 - i / 2h; exponential, epsilon = k^i; inverse sigmoid,
    epsilon = k / (k + exp(i / k)); each with the k that makes it 1/2 at i = h.
    """
    passed = step - 1
    match config.schedule:
        case None:
            return 0.0
        case "linear":
            share = passed / (2 * config.half_steps)
        case "exponential":
            share = 1.0 - 0.5 ** (passed / config.half_steps)
        case "inverse_sigmoid":
            k = _solve_inverse_sigmoid(config.half_steps)
            # exp(i / k) / (k + exp(i / k)), without overflow
            share = 1.0 / (1.0 + k * math.exp(-passed / k))
    return min(share, config.highest_rate)


def _solve_inverse_sigmoid(half_steps: int) -> float:
    """k with k ln k = half_steps, by Newton's method: the function is convex, so that it comes down to k from above."""
    k = half_steps + math.e
    while (step := (k * math.log(k) - half_steps) / (math.log(k) + 1.0)) > 1e-12 * k:
        k -= step
    return k


def mix_inputs(
    batches: Sequence[MicroBatch],
    predictions: Sequence[Tensor],
    share: float,
    key: tuple[int | str, ...],
    mesh: Mesh,
    alike: bool = False,
) -> list[MicroBatch]:
    """The micro-batches of a step with a share of the decoder's inputs replaced by predictions of the position before.

    What has no prediction, as the first position of a sentence and what follows context, stays. Which inputs are
    replaced depends on the key and the row's place among all rows of the step, not on the layout.

    Args:
        batches: of this rank, equally many rows in each.
        predictions: of each, int64 [R, L], token ids; 0 where there is none.
        share: probability of each input to be replaced.
        key: of the random numbers.
        mesh: of this rank.
        alike: whether the rows 2i and 2i + 1 get the same inputs, as R-Drop needs it.
    """
    rows, length = batches[0].segments.shape
    copies = 2 if alike else 1
    shape = (len(batches), mesh.data.size, rows // copies, length)
    drawn = torch.rand(shape, generator=make_generator(*key))[:, mesh.data.index] < share
    drawn = drawn.repeat_interleave(copies, dim=1)
    return [
        _mix(batch, predicted, chosen) for batch, predicted, chosen in zip(batches, predictions, drawn, strict=True)
    ]


def _mix(batch: MicroBatch, predicted: Tensor, chosen: Tensor) -> MicroBatch:
    inputs = batch.tokens[1].clone()
    before = predicted[:, :-1]
    same = batch.segments[:, 1:] == batch.segments[:, :-1]
    inputs[:, 1:] = torch.where(same & chosen[:, 1:] & (before != 0), before, inputs[:, 1:])
    return replace(batch, tokens=torch.stack([batch.tokens[0], inputs]))
