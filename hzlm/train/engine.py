"""The DeepSpeed engine: with pipeline.py the one file that builds on it.

The layers of the model become a PipelineModule, the optimizer runs behind ZeRO stage 1, also in a single process:
one path for every size of run.
"""

import contextlib
import io
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn

from hzlm.config import LossConfig, RunConfig
from hzlm.data.batches import MicroBatch, collate
from hzlm.errors import UserError
from hzlm.kernels.faces import choose_kernels
from hzlm.model.losses import PartLoss, TrainingLoss
from hzlm.model.predictions import Predictor
from hzlm.model.setup import Setup
from hzlm.parallel.collectives import all_reduce
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.random import seed_dropout
from hzlm.train.agreement import on_every_rank
from hzlm.train.averages import Averages
from hzlm.train.checks import StepChecks
from hzlm.train.loss_scale import loss_scale_state, restore_loss_scale, unbind_loss_scale
from hzlm.train.noise import PARTS, NoiseScale, measure_noise
from hzlm.train.nonfinite import Suspects, find_first
from hzlm.train.optimizer import ParameterState, build_optimizer, link_parameters
from hzlm.train.pipeline import build_pipeline
from hzlm.train.ranks import limit_waiting
from hzlm.train.rate_factors import check_names, silence_frozen
from hzlm.train.sampling import mix_inputs, predicted_share
from hzlm.vocabulary import Vocabulary

BUCKET = 1 << 25
"""Elements of a gradient that the data-parallel ranks add up at once."""


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did."""

    losses: dict[str, PartLoss]
    """Of each part."""
    gradient_norm: float
    """Over all parameters, before clipping; infinite where the step was skipped."""
    skipped: bool = False
    """Whether a gradient was too large for fp16 at this loss scale, so that nothing but the scale has changed."""


def deepspeed_settings(config: RunConfig) -> dict[str, Any]:
    """DeepSpeed's own configuration, as it is saved beside the run."""
    precision = config.train.precision
    return {
        "train_micro_batch_size_per_gpu": config.train.micro_batch_rows,
        "gradient_accumulation_steps": config.train.accumulation,
        "gradient_clipping": config.optimizer.gradient_clipping,
        # a step with a gradient that is not finite changes nothing
        "bf16": {"enabled": precision == "bf16", "check_grad_overflow": True},
        # loss_scale 0: dynamic
        "fp16": {"enabled": precision == "fp16", "loss_scale": 0},
        # buffers of a bucket's size would be held twice from the first micro-batch on
        "zero_optimization": {"stage": 1, "contiguous_gradients": False, "reduce_bucket_size": BUCKET},
        "zero_allow_untested_optimizer": True,
        # what crosses a stage border is the same on all tensor-parallel ranks, or a part already (`split_rows`)
        "pipeline": {"pipe_partitioned": False, "grad_partitioned": False},
        "steps_per_print": None,
    }


class Engine:
    """Trains and evaluates this rank's layers of one model. Its methods are collective calls of all ranks."""

    def __init__(self, config: RunConfig, vocabulary: Vocabulary, mesh: Mesh):
        """mesh: of `hzlm.train.ranks.connect`. UserError where the device of some rank has no such precision."""
        on_every_rank(lambda: _check_precision(config.train.precision), mesh.world)
        self.mesh = mesh
        self._seed = config.train.seed
        self._precision = config.train.precision
        self._pairing = config.pairing
        kernels = choose_kernels(config.train.kernels, mesh.device, config.model, mesh.tensor.size)
        setup = Setup(mesh, config.parallel.recompute, kernels)
        self._draws = setup.draws
        parts = (vocabulary.size, vocabulary.target_start, setup)
        self._loss = TrainingLoss(config.loss, *parts)
        # without dropout R-Drop is nothing
        self._evaluation_loss = TrainingLoss(_without(config.loss, "label_smoothing", "r_drop_weight"), *parts)
        # what is no sum over positions is another loss on a part of the rows
        self._noise_loss = TrainingLoss(_without(config.loss, "contrastive_weight", "r_drop_weight"), *parts)
        self._predictor = Predictor(*parts)
        self._sampling = config.sampling
        with _quiet_start():
            deepspeed.init_distributed(verbose=False)  # it takes the processes as they are connected
            self._module = build_pipeline(config, vocabulary, setup, self._loss)
            check_names(config.optimizer.rate_factors, self._module.layer_names)
            self._optimizer = build_optimizer(config.optimizer, self._module.parameters(), mesh, kernels.name)
            self._engine, *_ = deepspeed.initialize(
                model=self._module, optimizer=self._optimizer, config=deepspeed_settings(config)
            )
        limit_waiting(config.parallel)
        if self._precision == "fp16":
            unbind_loss_scale(self._engine.optimizer)
        named = dict(self._module.named_tensors())
        factors, decay = config.optimizer.rate_factors, config.train.average_decay
        silence_frozen(named, factors)
        masters = [group["params"][0] for group in self._optimizer.param_groups]
        self._averages = Averages(masters, decay) if decay > 0 else None
        self._parameters = link_parameters(named, self._optimizer, mesh, factors, self._averages)
        self._checks = StepChecks(named, mesh) if config.train.checks else None

    def train_step(self, batches: Sequence[MicroBatch], step: int, learning_rate: float) -> StepResult:
        """One optimizer step over all micro-batches of this rank. Dropout depends on (seed, step, rank) alone.

        With scheduled sampling a share of the decoder's inputs is what it predicts now, the right history given.

        Raises:
            UserError: a loss or a gradient is not finite (in fp16: at a loss scale below 1). The text names the first
                layer where that is so. Or as `StepChecks.check`.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        share = predicted_share(self._sampling, step)
        if share > 0.0:
            key = (self._seed, "sampling", step)
            batches = mix_inputs(batches, self.predict(batches), share, key, self.mesh, self._pairing == "dropout")
        if self._checks is not None:
            self._checks.begin()
        self._run(batches, step)
        losses = self._loss.take()
        skipped = bool(self._engine.optimizer.overflow)
        is_finite = all(math.isfinite(side.loss) for side in losses.values())
        # a loss scale below 1 multiplies by less than no scale would: it is no matter of fp16's range any more
        if (skipped or not is_finite) and (self.loss_scale is None or self.loss_scale < 1.0):
            with Suspects(self._module, self._loss) as suspects:
                self._run(batches, step)
            raise find_first(suspects, step, self.mesh)
        if self._averages is not None and not skipped:
            self._averages.update(self.optimizer_steps)
        if self._checks is not None:
            self._checks.check(step, skipped)
        return StepResult(losses, float(self._engine.get_global_grad_norm()), skipped)

    def _run(self, batches: Sequence[MicroBatch], step: int) -> None:
        self._begin("dropout", step)
        self._engine.train_batch(data_iter=_feed(batches))

    def _begin(self, purpose: str, step: int) -> None:
        """From here on dropout draws what it draws in this step."""
        seed_dropout(self._seed, purpose, step, self.mesh)
        self._draws.begin(self._seed, purpose, step)

    def evaluate(self, batches: Sequence[MicroBatch]) -> dict[str, PartLoss]:
        """Loss (without label smoothing) and teacher-forced accuracy, without dropout or gradients.

        Where averages of the weights are kept, they are what is measured.
        """
        self._swap_averages()
        self._pass_through(batches, self._evaluation_loss)
        self._swap_averages()
        return self._evaluation_loss.take()

    def _swap_averages(self) -> None:
        """Exchanges weights and averages, if there are any; called again, it puts all back."""
        if self._averages is not None:
            self._averages.swap()
            self._engine.optimizer.update_lp_params()

    def predict(self, batches: Sequence[MicroBatch]) -> list[Tensor]:
        """The likeliest token at each position that counts, the right history given, without dropout.

        Returns:
            On every rank, for each of its micro-batches token ids, int64 [R, L] on the CPU; 0 where nothing counts.
        """
        self._pass_through(batches, self._predictor)
        found = self._predictor.take()
        shape = (len(batches), *batches[0].segments.shape)
        # the stages that do not know add zeros
        known = torch.stack(found) if found else torch.zeros(shape, dtype=torch.int64, device=self.mesh.device)
        return list(all_reduce(known, self.mesh.pipe).cpu())

    def _pass_through(self, batches: Sequence[MicroBatch], loss: TrainingLoss | Predictor) -> None:
        """A forward pass without dropout or gradients, whose outputs are given to `loss`."""
        training = self._engine.micro_batches
        self._module.loss_fn = loss
        # by this number DualPipeV tells its buffers apart, however many it is asked to evaluate
        self._engine.micro_batches = len(batches)
        self._engine.eval_batch(_feed(batches), num_micro_batches=len(batches))
        self._engine.micro_batches = training
        self._module.loss_fn = self._loss

    def measure_noise(self, batches: Sequence[MicroBatch], step: int) -> NoiseScale | None:
        """The gradient noise of the token losses, on micro-batches of a step (the first ones, where there are many).

        It costs a forward and a backward pass over at most four micro-batches and leaves no trace in the training.
        None where they have fewer rows than there are parts to compare, and with several pipeline stages, where no
        rank has a whole gradient.
        """
        joined = collate(batches[:PARTS])
        rows = len(joined.segments) // PARTS
        if rows == 0 or self.mesh.pipe.size > 1 or (self.mesh.split_rows and rows % self.mesh.tensor.size):
            return None
        self._begin("noise", step)
        parts = joined.cut(rows)[:PARTS]
        scale = PARTS / len(batches[:PARTS])
        positions = sum(part.real_positions for part in parts) / PARTS
        parameters = list(self._module.parameters())
        noise = measure_noise(
            (self._gradient(part, scale, parameters) for part in parts), positions, parameters, self.mesh
        )
        self._noise_loss.take()
        return noise

    def _gradient(self, batch: MicroBatch, scale: float, parameters: Sequence[nn.Parameter]) -> Sequence[Tensor]:
        """The gradient of scale x loss by parameter. It is not accumulated: the hooks of ZeRO do not see it."""
        inputs = tuple(tensor.to(self.mesh.device) for tensor in batch.inputs)
        targets, weights, segments, sentences = (tensor.to(self.mesh.device) for tensor in batch.labels)
        loss = self._noise_loss(self._module.train()(inputs), (targets, weights, segments, sentences))
        return torch.autograd.grad(scale * loss, parameters, materialize_grads=True)

    @property
    def parameters(self) -> dict[str, ParameterState]:
        """What this rank holds of the logical tensors, by their names in `EncoderDecoder`; the views write through."""
        return self._parameters

    @property
    def layers(self) -> list[str]:
        """The layers that this rank holds, by their names in `EncoderDecoder`."""
        return [name for _, name, _ in self._module.placed_layers()]

    @property
    def optimizer_steps(self) -> int:
        """Updates that the optimizer has made: what its bias correction counts."""
        return self._optimizer.steps

    @property
    def loss_scale(self) -> float | None:
        """What fp16 multiplies the loss by; None of other precisions."""
        return float(self._engine.optimizer.loss_scale) if self._precision == "fp16" else None

    def loss_scale_state(self) -> dict[str, float | int] | None:
        """All that the loss scale of the next steps hangs on; None but for fp16."""
        return loss_scale_state(self._engine.optimizer) if self._precision == "fp16" else None

    def restore(self, optimizer_steps: int | None = None, loss_scale: dict[str, float | int] | None = None) -> None:
        """After masters were written through `parameters`: copies them to the weights, sets what is given."""
        self._engine.optimizer.update_lp_params()
        if optimizer_steps is not None:
            self._optimizer.steps = optimizer_steps
        if loss_scale is not None and self._precision == "fp16":
            restore_loss_scale(self._engine.optimizer, loss_scale)


def _without(loss: LossConfig, *fields: str) -> LossConfig:
    return loss.model_copy(update=dict.fromkeys(fields, 0.0))


def _check_precision(precision: str) -> None:
    device = get_accelerator()
    supported = {"fp32": True, "bf16": device.is_bf16_supported(), "fp16": device.is_fp16_supported()}
    if not supported[precision]:
        remedy = " or ".join(name for name, has in supported.items() if has)
        raise UserError(f"train.precision = {precision}: this device does not compute in it; make it {remedy}")


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Keeps back the layer list that DeepSpeed prints, and its warning that it does not know our optimizer."""
    logger = logging.getLogger("DeepSpeed")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _feed(batches: Iterable[MicroBatch]) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    for batch in batches:
        yield batch.inputs, batch.labels
