"""What a run is: typed, validated, read from YAML.

The YAML file has the sections of `RunConfig`. Its `model` section may name a `size`: it then starts from the fields
of configs/models/SIZE.yaml. The saved config spells every field out and names no size, so that it keeps its meaning
when the sizes change. Relative paths start from the working directory.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from hzlm.data_config import DRAWN_WITHOUT_CHANCE, DataConfig
from hzlm.errors import UserError
from hzlm.parallel_config import ParallelConfig
from hzlm.settings import (
    Count,
    Positive,
    Rate,
    Section,
    Share,
    Size,
    Weight,
    explain_unknown,
    parse_override,
    read_values,
    replace_value,
    validate,
)
from hzlm.stored_yaml import parse_yaml


class ModelConfig(Section):
    """The shape of the encoder-decoder."""

    shorthands: ClassVar[tuple[str, ...]] = ("size",)

    hidden_size: Size
    """Width of embeddings and layers."""
    heads: Size
    """Attention heads; divides `hidden_size`."""
    feed_forward_size: Size
    """Width between the two linear layers of a feed-forward block."""
    encoder_layers: Size
    """Blocks of the encoder."""
    decoder_layers: Size
    """Blocks of the decoder; few of them make typing fast."""
    max_length: Size
    """Rows of the position tables: the longest sentence in characters."""
    dropout: Rate = 0.1
    """Dropout rate on embeddings and on the output of every sublayer."""
    attention_dropout: Rate = 0.0
    """Dropout rate on attention weights; slow on CPUs."""
    activation_dropout: Rate = 0.0
    """Dropout rate behind the ReLU of a feed-forward block."""
    aligned: bool = False
    """Whether the encoder's output at position t is added to the decoder's input at t."""


class LossConfig(Section):
    """Weights of the parts of the loss."""

    encoder_weight: Weight = 0.0
    """Weight of the cross entropy of encoder outputs, where the source does not tell the character itself."""
    decoder_weight: Weight = 1.0
    """Weight of the cross entropy of decoder outputs."""
    label_smoothing: Rate = 0.0
    """Probability spread evenly over all targets."""
    contrastive_weight: Weight = 0.0
    """Weight of the contrastive loss between the encoder's means of two views of a sentence; rows then come in pairs,
    each with views of its own."""
    temperature: Positive = 0.05
    """Of the contrastive loss: what cosines are divided by."""
    r_drop_weight: Weight = 0.0
    """Weight of R-Drop (Liang et al. 2021), the divergence between two passes with different dropout; rows then come in
    pairs that differ in dropout alone."""


class OptimizerConfig(Section):
    """How gradients become steps; the learning rate is the schedule's."""

    name: Literal["lamb", "adamw"] = "lamb"
    """LAMB (You et al. 2019) scales the step of each tensor to its norm; AdamW (Loshchilov & Hutter 2019) does not."""
    betas: tuple[Rate, Rate] = (0.9, 0.999)
    """Decay rates of the first and second moment."""
    eps: Positive = 1e-6
    """Added to the square root of the second moment."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay."""
    gradient_clipping: Weight = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    rate_factors: dict[str, Weight] = Field(default={})
    """Factor on the learning rate of a layer or stack, as in {encoder: 0.3, encoder.0: 0.1, tokens: 0}; the longest
    name that fits decides, and 0 freezes."""


class ScheduleConfig(Section):
    """lr = scale * hidden_size^-0.5 * min(step^-0.5, step * warmup_steps^-1.5), and a cool-down at the end."""

    scale: Positive
    """Factor on the whole schedule."""
    warmup_steps: Count
    """Steps of linear growth before the decay."""
    cooldown_steps: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    """Last steps of the run, over which the rate falls linearly towards 0."""


class SamplingConfig(Section):
    """Scheduled sampling (Bengio et al. 2015): some inputs of the decoder are its own predictions."""

    schedule: Literal["linear", "exponential", "inverse_sigmoid"] | None = None
    """How the share of such inputs grows with the steps; null: teacher forcing, so none."""
    half_steps: Count = 1000
    """Steps until half of all inputs would be such."""
    highest_rate: Share = 1.0
    """The share grows no further."""


class TrainConfig(Section):
    """How long, how much at once, and what is written when."""

    output: Path
    """Run folder."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Decides initial weights, data order, views and dropout."""
    steps: Count
    """Optimizer steps of the whole run."""
    micro_batch_rows: Size
    """Packed rows of one forward pass of one data-parallel process."""
    accumulation: Size = 1
    """Forward passes a step and data-parallel process."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of weights and activations; masters and moments are always fp32."""
    kernels: Literal["auto", "torch", "triton"] = "auto"
    """What the model computes with: "triton", fused kernels for GPUs; "torch"; "auto": triton on a GPU of compute
    capability 8.0 or later, torch elsewhere."""
    initial_weights: Path | None = None
    """Checkpoint or run folder whose weights start this run; null: random ones."""
    log_every: Count = 10
    """Steps between two entries of metrics.jsonl and TensorBoard."""
    evaluate_every: Count = 500
    """Steps between two measurements on the dev split; a checkpoint is always measured."""
    evaluate_rows: Size = 64
    """Packed rows of the dev split in one measurement."""
    save_every: Count = 500
    """Steps between two checkpoints; the last step is always saved."""
    keep_last: Count = 2
    """Newest checkpoints kept, besides the best one on the dev split."""
    average_decay: Rate = 0.0
    """Decay of an exponential moving average of the weights, which is then what is measured and used; 0: none."""
    patience: Count | None = None
    """Measurements on the dev split without a lower loss after which the run ends early; null: never."""
    checks: bool = False
    """Whether every step checks that tied and replicated weights are equal on all processes that hold them, and that
    gradients are finite and none is missing; slow."""


class RunConfig(Section):
    """Everything that one training run is."""

    model: ModelConfig
    data: DataConfig
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig
    sampling: SamplingConfig = SamplingConfig()
    train: TrainConfig
    parallel: ParallelConfig = ParallelConfig()

    @property
    def step_rows(self) -> int:
        """Packed rows of an optimizer step, those of all processes together."""
        return self.group_rows * self.train.accumulation

    @property
    def group_rows(self) -> int:
        """Packed rows of a global micro-batch: those that all data-parallel processes read together."""
        return self.train.micro_batch_rows * self.parallel.data

    @property
    def pairing(self) -> Literal["none", "views", "dropout"]:
        """Whether rows come in pairs of the same sentences, and what these differ in."""
        if self.loss.contrastive_weight > 0:
            return "views"
        return "dropout" if self.loss.r_drop_weight > 0 else "none"

    @model_validator(mode="after")
    def _cross_checks(self) -> "RunConfig":
        """Every rule that looks at more than one field, or at names that pydantic cannot know."""
        model, loss = self.model, self.loss
        if model.hidden_size % model.heads:
            divisors = (heads for heads in range(1, model.hidden_size + 1) if model.hidden_size % heads == 0)
            near = min(divisors, key=lambda heads: abs(heads - model.heads))
            raise ValueError(
                f"model.heads = {model.heads} does not divide model.hidden_size = {model.hidden_size}; {near} would"
            )
        if loss.encoder_weight == loss.decoder_weight == 0:
            raise ValueError("loss.encoder_weight and loss.decoder_weight are both 0; make one of them positive")
        if loss.contrastive_weight > 0 and loss.r_drop_weight > 0:
            raise ValueError(
                "loss.contrastive_weight and loss.r_drop_weight pair the rows in different ways; make one of them 0"
            )
        if self.pairing != "none" and self.train.micro_batch_rows % 2:
            raise ValueError(
                f"train.micro_batch_rows = {self.train.micro_batch_rows} is odd, but loss.contrastive_weight and "
                f"loss.r_drop_weight read rows in pairs; make it {self.train.micro_batch_rows + 1}"
            )
        if loss.r_drop_weight > 0 and loss.decoder_weight == 0:
            raise ValueError("loss.r_drop_weight needs the decoder's loss; make loss.decoder_weight positive")
        draws = max(model.dropout, model.attention_dropout, model.activation_dropout) > 0
        if loss.r_drop_weight > 0 and not draws:
            raise ValueError("loss.r_drop_weight needs passes that differ; make model.dropout positive")
        fixed = self.data.views.keys() <= DRAWN_WITHOUT_CHANCE and len(self.data.views) <= 1
        if loss.contrastive_weight > 0 and fixed and not draws:
            raise ValueError(
                "loss.contrastive_weight needs views that differ; name another one in data.views, or make "
                "model.dropout positive"
            )
        if self.schedule.cooldown_steps >= self.train.steps:
            raise ValueError(
                f"schedule.cooldown_steps = {self.schedule.cooldown_steps} is no less than train.steps = "
                f"{self.train.steps}; make it a part of them"
            )
        if self.data.context > 0 and model.max_length < self.data.row_length:
            raise ValueError(
                f"model.max_length = {model.max_length} is less than data.row_length = {self.data.row_length}, which "
                "sentences with context may fill; raise it, or make data.context 0"
            )
        if self.sampling.schedule is not None and loss.decoder_weight == 0:
            raise ValueError("sampling.schedule needs the decoder's loss; make loss.decoder_weight positive")
        self.parallel.check_model(model.heads, model.feed_forward_size, model.encoder_layers, model.decoder_layers)
        self.parallel.check_batch(self.train.micro_batch_rows, self.train.accumulation)
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run from a YAML file; `overrides` ("section.key=value", the value in YAML) replace what it says.

    Raises:
        UserError: the file is missing or no YAML, a key is unknown or missing, a value has the wrong type,
            or two values do not go together.
    """
    values = read_values(path, RunConfig)
    if isinstance(values.get("model"), dict):
        values["model"] = {**_size(values["model"].pop("size", None), str(path)), **values["model"]}
    origins: dict[str, str] = {}
    # A size first, so that it does not undo the model fields given beside it.
    for override in sorted(overrides, key=lambda text: not text.startswith("model.size=")):
        dotted, value = parse_override(override)
        origins[dotted] = f"override {override}"
        if dotted == "model.size":
            for key, of_size in _size(value, origins[dotted]).items():
                replace_value(values, f"model.{key}", of_size, origins[dotted])
        else:
            replace_value(values, dotted, value, origins[dotted])
    return validate(RunConfig, values, str(path), origins)


def _size(name: Any, where: str) -> dict[str, Any]:
    """The fields of configs/models/NAME.yaml; none where no size is named."""
    if name is None:
        return {}
    folder = resources.files("hzlm.configs") / "models"
    known = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
    if name not in known:
        raise UserError(f"{where}: model.size = {name!r}: {explain_unknown('size', str(name), known)}")
    fields: dict[str, Any] = parse_yaml((folder / f"{name}.yaml").read_text("utf-8"), f"{name}.yaml")
    return fields
