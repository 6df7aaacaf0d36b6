"""Steps with factors on the learning rate and averages, beside torch's own; importable in processes of their own."""

import math
from itertools import islice

import torch
from engines import start_engine
from torch import Tensor

from hzlm.config import RunConfig
from hzlm.data.batches import BatchReader
from hzlm.data.blend import Blend
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.losses import TrainingLoss
from hzlm.parallel.sharding import sharding_of
from hzlm.train.engine import Engine
from hzlm.train.optimizer import ParameterState
from hzlm.vocabulary import Vocabulary

FACTORS = {"encoder": 0.5, "encoder.0": 0.0, "decoder.1": 2.0, "tokens": 0.0}
"""Two stages do not have the same ones."""
DECAY = 0.25
"""The third step, (1 + 3) / (10 + 3), is the first that it decides."""
STEPS = 4
RATE = 0.003


def wanted_factor(name: str) -> float:
    """What `FACTORS` says of a tensor."""
    if name.startswith(("tokens.", "encoder.0.")):
        return 0.0
    return {"encoder": 0.5, "decoder": 2.0 if name.startswith("decoder.1.") else 1.0}.get(name.split(".")[0], 1.0)


def compare_with_torch(config: RunConfig, vocabulary: Vocabulary) -> list[str]:
    """Steps of this rank's engine, and the same ones by torch.optim.AdamW; says where they differ."""
    engine, steps = start_engine(config)
    model = EncoderDecoder(config.model, vocabulary.size, vocabulary.target_start).initialize(config.train.seed)
    named = dict(model.named_parameters())
    initial = {name: parameter.detach().clone() for name, parameter in named.items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p], "lr": RATE * wanted_factor(name), "weight_decay": 0.01 if p.dim() > 1 else 0.0}
            for name, p in named.items()
            if wanted_factor(name) > 0
        ],
        eps=config.optimizer.eps,
    )
    loss = TrainingLoss(config.loss, vocabulary.size, vocabulary.target_start)
    reader = BatchReader(Blend.open(config.data, "train"), config.data, config.train.seed)
    found = []
    wanted_averages = {name: state.masters.double() for name, state in engine.parameters.items()}
    for step, batch in enumerate(islice(reader.steps(0, 1, config.step_rows), STEPS), start=1):
        model.zero_grad()
        for micro_batch in batch.micro_batches:
            (loss(model(micro_batch.inputs), micro_batch.labels) / len(batch.micro_batches)).backward()
        moving = [p for group in optimizer.param_groups for p in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(moving, config.optimizer.gradient_clipping))
        assert norm > config.optimizer.gradient_clipping, "the steps must clip"
        optimizer.step()
        result = engine.train_step(next(steps), step, RATE)
        if not math.isclose(result.gradient_norm, norm, rel_tol=1e-4):
            found.append(f"step {step}: the norm is {result.gradient_norm} instead of {norm}")
        for name, state in engine.parameters.items():
            kept = min(DECAY, (1 + step) / (10 + step))
            wanted_averages[name] = kept * wanted_averages[name] + (1 - kept) * state.masters.double()
    for name, state in engine.parameters.items():
        assert state.averages is not None
        expected, before = (own_part(state, tensors[name].detach()) for tensors in (named, initial))
        if wanted_factor(name) == 0 and not state.masters.equal(before):
            found.append(f"{name} is not frozen")
        # Adam divides by the root of the second moment, so a key bias, whose gradient is rounding noise, wanders
        if not name.endswith("key.bias") and not torch.allclose(state.masters, expected, rtol=1e-3, atol=2e-5):
            found.append(f"{name} differs by {(state.masters - expected).abs().max()}")
        if not torch.allclose(state.averages.double(), wanted_averages[name], rtol=1e-6, atol=1e-7):
            found.append(f"the average of {name} differs")
    return found + changed_by_evaluation(engine, vocabulary, config)


def own_part(state: ParameterState, whole: Tensor) -> Tensor:
    """What this rank's masters hold of a logical tensor."""
    sharding = sharding_of(state.weight)
    part = whole if sharding is None else sharding.take(whole)
    return part.flatten()[state.start : state.start + state.masters.numel()]


def changed_by_evaluation(engine: Engine, vocabulary: Vocabulary, config: RunConfig) -> list[str]:
    """What a measurement leaves otherwise than it was, bit by bit."""
    dev = BatchReader(Blend.open(config.data, "dev"), config.data, 0, engine.mesh)

    def bits() -> dict[str, Tensor]:
        return {
            f"{field} of {name}": getattr(state, field).detach().clone().view(torch.uint8)
            for name, state in engine.parameters.items()
            for field in ("weight", "masters", "averages")
        }

    before = bits()
    engine.evaluate(dev.one_pass(1, 4, at_least=config.parallel.stage_count))
    return [f"measuring changes {name}" for name, now in bits().items() if not now.equal(before[name])]
