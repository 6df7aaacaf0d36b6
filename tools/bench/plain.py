"""Training as a plain PyTorch loop: what the engine's overhead is measured against."""

import time
from dataclasses import dataclass

import torch
from torch import nn

from hzlm.config import RunConfig
from hzlm.data.batches import MicroBatch
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.losses import TrainingLoss
from hzlm.train.lamb import Lamb
from hzlm.train.optimizer import split_by_decay
from hzlm.vocabulary import Vocabulary


@dataclass(frozen=True)
class Seconds:
    """Where the time of one step went."""

    forward: float
    backward: float
    optimizer: float

    @property
    def step(self) -> float:
        """The whole step."""
        return self.forward + self.backward + self.optimizer


class PlainLoop:
    """The same model, loss, clipping and LAMB without an engine: bf16 weights beside float32 masters, one process."""

    def __init__(self, config: RunConfig, vocabulary: Vocabulary) -> None:
        self._clipping = config.optimizer.gradient_clipping
        self._loss = TrainingLoss(config.loss, vocabulary.size, vocabulary.target_start)
        self._model = EncoderDecoder(config.model, vocabulary.size, vocabulary.target_start)
        self._model.initialize(config.train.seed)
        self._masters = [nn.Parameter(parameter.detach().clone()) for parameter in self._model.parameters()]
        plan = config.optimizer
        self._optimizer = Lamb(split_by_decay(self._masters, plan.weight_decay), betas=plan.betas, eps=plan.eps)
        self._model.bfloat16()

    def step(self, batch: MicroBatch, learning_rate: float) -> Seconds:
        """One optimizer step on one micro-batch."""
        start = time.perf_counter()
        loss = self._loss(self._model(batch.inputs), batch.labels)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        self._update(learning_rate)
        return Seconds(forward - start, backward - forward, time.perf_counter() - backward)

    def _update(self, learning_rate: float) -> None:
        weights = list(self._model.parameters())
        for weight, master in zip(weights, self._masters, strict=True):
            assert weight.grad is not None
            master.grad, weight.grad = weight.grad.float(), None
        if self._clipping > 0:
            nn.utils.clip_grad_norm_(self._masters, self._clipping)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        with torch.no_grad():
            for weight, master in zip(weights, self._masters, strict=True):
                weight.copy_(master)
        self._loss.take()
