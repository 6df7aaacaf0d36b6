"""One step on drawn weights and drawn rows, whose gradients are recorded and not used.

Importable in processes of their own, in a moment.
"""

from dataclasses import dataclass
from unittest.mock import patch

import torch
from gradients import Part, part_of
from torch import Tensor

from hzlm.config import RunConfig
from hzlm.data.batches import MicroBatch
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.parallel.random import make_generator
from hzlm.parallel.sharding import sharding_of
from hzlm.train.engine import Engine, StepResult
from hzlm.train.lamb import Lamb
from hzlm.train.ranks import connect
from hzlm.vocabulary import Vocabulary

LENGTH, ROWS, MICRO_BATCHES = 11, 2, 2
LENGTHS = (11, 7, 4, 9)
"""A sentence a row: Blenderbot knows no packing."""


@dataclass(frozen=True)
class Batch:
    """The rows of a step. `asked`: bool [2, R, L], what counts in the loss of encoder and decoder."""

    source: Tensor
    inputs: Tensor
    target: Tensor
    segments: Tensor
    asked: Tensor


def draw_batch(vocabulary: Vocabulary) -> Batch:
    """The same in every process."""
    generator = torch.Generator().manual_seed(0)
    shape = (ROWS * MICRO_BATCHES, LENGTH)
    source = torch.randint(4, vocabulary.target_start, shape, generator=generator)
    target = torch.randint(vocabulary.target_start, vocabulary.size, shape, generator=generator)
    inputs = torch.cat([torch.full((shape[0], 1), vocabulary.bos_id), target[:, :-1]], dim=1)
    real = torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]
    on_encoder = real & (torch.rand(shape, generator=generator) < 0.5)
    return Batch(source, inputs, target, real.int(), torch.stack([on_encoder, real]))


def draw_weights(config: RunConfig, vocabulary: Vocabulary) -> EncoderDecoder:
    """Initial weights and as much on top of them that every gradient counts."""
    model = EncoderDecoder(config.model, vocabulary.size, vocabulary.target_start).initialize(config.train.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=make_generator("added", name))
    return model.eval()


def micro_batches(vocabulary: Vocabulary) -> list[MicroBatch]:
    """The weights of a side sum to the number of micro-batches."""
    batch = draw_batch(vocabulary)
    counted = batch.asked.sum(dim=(1, 2), keepdim=True)
    whole = MicroBatch(
        torch.stack([batch.source, batch.inputs]),
        torch.arange(LENGTH).repeat(len(LENGTHS), 1),
        batch.segments,
        batch.target,
        batch.asked * (MICRO_BATCHES / counted),
        torch.zeros_like(batch.target),
    )
    return whole.cut(ROWS)


def step_as_rank(config: RunConfig, vocabulary: Vocabulary) -> tuple[StepResult, dict[str, Part]]:
    """A step with the drawn weights; what the optimizer is given as gradients, by name."""
    mesh = connect(config.parallel)
    engine = Engine(config, vocabulary, mesh)
    weights = dict(draw_weights(config, vocabulary).named_parameters())
    for name, state in engine.parameters.items():
        sharding = sharding_of(state.weight)
        own = weights[name].detach() if sharding is None else sharding.take(weights[name].detach())
        state.masters.copy_(own.flatten())
    engine.restore()
    numbers = {name: number for number, name in enumerate(sorted(weights))}
    recorded: dict[int, Tensor] = {}

    def record(optimizer: Lamb) -> None:
        """ZeRO steps one parameter group after the other."""
        for flat, layout in optimizer._layouts.items():
            if flat.grad is not None:
                recorded.update({part.number: part.of(flat.grad.view(-1)).clone() for part in layout.fragments})

    with patch.object(Lamb, "_update", record):
        result = engine.train_step(micro_batches(vocabulary), 1, 0.1)
    assert recorded.keys() == {numbers[name] for name in engine.parameters}
    return result, {
        name: part_of(state.weight, recorded[numbers[name]].view(state.weight.shape))
        for name, state in engine.parameters.items()
    }
