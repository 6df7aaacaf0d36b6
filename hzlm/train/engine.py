"""The DeepSpeed engine: the one file that knows it.

The layers of the model become a PipelineModule, the optimizer runs behind ZeRO stage 1, also in a single process:
one path for every size of run.
"""

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
from deepspeed.pipe import LayerSpec, PipelineModule, TiedLayerSpec
from torch import Tensor, nn

from hzlm.config import RunConfig
from hzlm.data.batches import MicroBatch, collate
from hzlm.launch.environment import single_process_environment
from hzlm.model.embedding import TokenEmbedding
from hzlm.model.encoder_decoder import plan_layers
from hzlm.model.initial import initialize
from hzlm.model.losses import SideLoss, TrainingLoss
from hzlm.parallel.random import derive_seed
from hzlm.train.lamb import Fragment, Lamb
from hzlm.train.noise import PARTS, NoiseScale, measure_noise
from hzlm.vocabulary import Vocabulary


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did: the loss of each side, and the gradient norm before clipping."""

    losses: dict[str, SideLoss]
    gradient_norm: float


@dataclass(frozen=True)
class ParameterState:
    """One logical tensor: its weight as the model holds it, and flat float32 views of its master and moments."""

    weight: nn.Parameter
    masters: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


def deepspeed_settings(config: RunConfig) -> dict[str, Any]:
    """DeepSpeed's own configuration, as it is saved beside the run."""
    return {
        "train_micro_batch_size_per_gpu": config.train.micro_batch_rows,
        "gradient_accumulation_steps": config.train.accumulation,
        "gradient_clipping": config.optimizer.gradient_clipping,
        "bf16": {"enabled": config.train.precision == "bf16"},
        "zero_optimization": {"stage": 1},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }


class Engine:
    """Trains and evaluates the layers of one model."""

    def __init__(self, config: RunConfig, vocabulary: Vocabulary):
        single_process_environment()
        with _quiet_start():
            self._build(config, vocabulary)

    def _build(self, config: RunConfig, vocabulary: Vocabulary) -> None:
        deepspeed.init_distributed(verbose=False)
        self._seed = config.train.seed
        self._loss = TrainingLoss(config.loss, vocabulary.target_start)
        self._evaluation_loss = TrainingLoss(
            config.loss.model_copy(update={"label_smoothing": 0.0}), vocabulary.target_start
        )
        self._plan = plan_layers(config.model, vocabulary.size)
        tokens, *others = self._plan
        table = (TokenEmbedding, *tokens.arguments)
        module = PipelineModule(
            layers=[
                TiedLayerSpec(tokens.name, *table),
                *(LayerSpec(layer.module, *layer.arguments) for layer in others),
                TiedLayerSpec(tokens.name, *table, forward_fn=TokenEmbedding.project),
            ],
            num_stages=1,
            loss_fn=self._loss,
        )
        for layer, child in self._children(module):
            initialize(child, layer, config.train.seed)
        self._optimizer = Lamb(
            split_by_decay(module.parameters(), config.optimizer.weight_decay),
            betas=config.optimizer.betas,
            eps=config.optimizer.eps,
        )
        self._engine, *_ = deepspeed.initialize(
            model=module, optimizer=self._optimizer, config=deepspeed_settings(config)
        )
        self._parameters = self._link_parameters()

    def train_step(self, batches: Sequence[MicroBatch], step: int, learning_rate: float) -> StepResult:
        """One optimizer step over all of its micro-batches. Dropout depends on (seed, step) alone."""
        torch.manual_seed(derive_seed(self._seed, "dropout", step))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.train_batch(data_iter=_feed(batches))
        return StepResult(self._loss.take(), float(self._engine.get_global_grad_norm()))

    def evaluate(self, batches: Sequence[MicroBatch]) -> dict[str, SideLoss]:
        """Loss (without label smoothing) and teacher-forced accuracy of each side, without dropout or gradients."""
        module = self._engine.module
        module.loss_fn = self._evaluation_loss
        self._engine.eval_batch(_feed(batches), num_micro_batches=len(batches))
        module.loss_fn = self._loss
        return self._evaluation_loss.take()

    def measure_noise(self, batches: Sequence[MicroBatch], step: int) -> NoiseScale | None:
        """The gradient noise of the micro-batches of a step (of the first ones, where there are many).

        It costs a forward and a backward pass over at most four micro-batches and leaves no trace in the training.
        None where they have fewer rows than there are parts to compare.
        """
        joined = collate(batches[:PARTS])
        rows = len(joined.segments) // PARTS
        if rows == 0:
            return None
        torch.manual_seed(derive_seed(self._seed, "noise", step))
        parts = joined.cut(rows)[:PARTS]
        scale = PARTS / len(batches[:PARTS])
        positions = sum(part.real_positions for part in parts) / PARTS
        noise = measure_noise((self._gradient(part, scale) for part in parts), positions)
        self._loss.take()
        return noise

    def _gradient(self, batch: MicroBatch, scale: float) -> Sequence[Tensor]:
        """The gradient of scale x loss by parameter. It is not accumulated: the hooks of ZeRO do not see it."""
        module = self._engine.module.train()
        inputs = tuple(tensor.to(self.device) for tensor in batch.inputs)
        loss = self._loss(module(inputs), (batch.targets.to(self.device), batch.weights.to(self.device)))
        return torch.autograd.grad(scale * loss, list(module.parameters()), materialize_grads=True)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return torch.device(self._engine.device)

    @property
    def parameters(self) -> dict[str, ParameterState]:
        """Every logical tensor by its name in `EncoderDecoder`; the views write through."""
        return self._parameters

    @property
    def optimizer_steps(self) -> int:
        """Updates that the optimizer has made: what its bias correction counts."""
        return self._optimizer.steps

    @torch.no_grad()
    def restore(self, optimizer_steps: int | None = None) -> None:
        """After masters were written through `parameters`: copies them to the weights, sets the update count."""
        for state in self._parameters.values():
            state.weight.copy_(state.masters.view(state.weight.shape))
        if optimizer_steps is not None:
            self._optimizer.steps = optimizer_steps

    def _children(self, module: PipelineModule) -> Iterator[tuple[str, nn.Module]]:
        yield self._plan[0].name, module.tied_modules[self._plan[0].name]
        for number, layer in enumerate(self._plan[1:], start=1):
            yield layer.name, module.get_submodule(str(number))

    def _named_parameters(self, module: PipelineModule) -> Iterator[tuple[str, nn.Parameter]]:
        for layer, child in self._children(module):
            for name, parameter in child.named_parameters():
                yield f"{layer}.{name}", parameter

    def _link_parameters(self) -> dict[str, ParameterState]:
        """Reads from ZeRO where each parameter lies in its flat partitions, and tells the optimizer."""
        self._optimizer.initialize_state()
        fragments: dict[Tensor, list[Fragment]] = {}
        linked = {}
        flats = [group["params"][0] for group in self._optimizer.param_groups]
        for name, weight in self._named_parameters(self._engine.module):
            mapping: Any = weight.__dict__["_hp_mapping"]
            flat = flats[mapping.param_group_index]
            fragment = Fragment(mapping.hp_fragment_address.start, mapping.hp_fragment_address.numel)
            fragments.setdefault(flat, []).append(fragment)
            moments = self._optimizer.state[flat]
            linked[name] = ParameterState(
                weight, fragment.of(flat.data), fragment.of(moments["exp_avg"]), fragment.of(moments["exp_avg_sq"])
            )
        for flat, parts in fragments.items():
            self._optimizer.set_fragments(flat, parts)
        return linked


def split_by_decay(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two parameter groups: matrices with weight decay and trust ratio, biases and LayerNorms without either."""
    listed = list(parameters)
    vectors = [parameter for parameter in listed if parameter.dim() < 2]
    matrices = [parameter for parameter in listed if parameter.dim() >= 2]
    return [
        {"params": matrices, "weight_decay": weight_decay, "trust": True},
        {"params": vectors, "weight_decay": 0.0, "trust": False},
    ]


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


def _feed(batches: Sequence[MicroBatch]) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    for batch in batches:
        yield batch.inputs, batch.labels
