"""What a run is: typed, validated, read from YAML.

The YAML file has the sections of `RunConfig`. Its `model` section may name a `size`: it then starts from the fields
of configs/models/SIZE.yaml. The saved config spells every field out and names no size, so that it keeps its meaning
when the sizes change. Relative paths start from the working directory.
"""

import difflib
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hzlm.errors import UserError
from hzlm.stored_yaml import format_yaml, parse_yaml

VIEWS = ("masked", "pinyin", "toned")

# parts of the longest name that an override may have, such as data.views.pinyin
DEEPEST = 3

Count = Annotated[int, Field(gt=0, lt=1 << 31)]
# No model or batch comes near the bound; what is beyond it is a slip, and would take all memory of the machine.
Size = Annotated[int, Field(gt=0, le=1 << 16)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of the config: immutable, strict about types, without unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class ModelConfig(Section):
    """The shape of the encoder-decoder."""

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
    aligned: bool = False
    """Whether the encoder's output at position t is added to the decoder's input at t."""


class DataConfig(Section):
    """Which data a run reads, and how."""

    path: Path
    """Dataset folder written by `hzlm prepare`."""
    row_length: Size = 128
    """Positions of a packed row."""
    views: dict[str, Positive] = Field(min_length=1)
    """Relative rate of each view: "masked", "pinyin" (syllables), "toned" (syllables with tone)."""
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the positions that the masked view hides."""


class LossConfig(Section):
    """Weights of the parts of the loss."""

    encoder_weight: Weight = 0.0
    """Weight of the cross entropy of encoder outputs, where the source does not tell the character itself."""
    decoder_weight: Weight = 1.0
    """Weight of the cross entropy of decoder outputs."""
    label_smoothing: Rate = 0.0
    """Probability spread evenly over all targets."""


class OptimizerConfig(Section):
    """LAMB (You et al. 2019); the learning rate is the schedule's."""

    betas: tuple[Rate, Rate] = (0.9, 0.999)
    """Decay rates of the first and second moment."""
    eps: Positive = 1e-6
    """Added to the square root of the second moment."""
    weight_decay: Weight = 0.01
    """Decoupled weight decay."""
    gradient_clipping: Weight = 1.0
    """Largest global gradient norm; 0 turns clipping off."""


class ScheduleConfig(Section):
    """lr = scale * hidden_size^-0.5 * min(step^-0.5, step * warmup_steps^-1.5)."""

    scale: Positive
    """Factor on the whole schedule."""
    warmup_steps: Count
    """Steps of linear growth before the decay."""


class TrainConfig(Section):
    """How long, how much at once, and what is written when."""

    output: Path
    """Run folder."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Decides initial weights, data order, views and dropout."""
    steps: Count
    """Optimizer steps of the whole run."""
    micro_batch_rows: Size
    """Packed rows of one forward pass of one process."""
    accumulation: Size = 1
    """Forward passes a step and process."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of weights and activations; masters and moments are fp32 in either."""
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


class RunConfig(Section):
    """Everything that one training run is."""

    model: ModelConfig
    data: DataConfig
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig
    train: TrainConfig

    @model_validator(mode="after")
    def _cross_checks(self) -> "RunConfig":
        """Every rule that looks at more than one field, or at names that pydantic cannot know."""
        model, data, loss = self.model, self.data, self.loss
        if model.hidden_size % model.heads:
            divisors = (heads for heads in range(1, model.hidden_size + 1) if model.hidden_size % heads == 0)
            near = min(divisors, key=lambda heads: abs(heads - model.heads))
            raise ValueError(
                f"model.heads = {model.heads} does not divide model.hidden_size = {model.hidden_size}; {near} would"
            )
        for view in data.views:
            if view not in VIEWS:
                raise ValueError(f"data.views.{view}: {_unknown('view', view, VIEWS)}")
        if loss.encoder_weight == loss.decoder_weight == 0:
            raise ValueError("loss.encoder_weight and loss.decoder_weight are both 0; make one of them positive")
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run from a YAML file; `overrides` ("section.key=value", the value in YAML) replace what it says.

    Raises:
        UserError: the file is missing or no YAML, a key is unknown or missing, a value has the wrong type,
            or two values do not go together.
    """
    values = _read_yaml(path)
    if isinstance(values.get("model"), dict):
        values["model"] = {**_size(values["model"].pop("size", None), str(path)), **values["model"]}
    origins: dict[str, str] = {}
    # A size first, so that it does not undo the model fields given beside it.
    for override in sorted(overrides, key=lambda text: not text.startswith("model.size=")):
        dotted, value = _parse_override(override)
        origins[dotted] = f"override {override}"
        _replace(values, dotted, value, origins[dotted])
    try:
        return RunConfig.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(_explain(error, str(path), origins)) from None


def save_config(config: RunConfig, path: Path) -> None:
    """Write every field as YAML; `load_config` reads an equal config back."""
    path.write_text(format_yaml(config.model_dump(mode="json")), "utf-8")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the YAML file of a run") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected the sections {', '.join(RunConfig.model_fields)}")
    return values


def _size(name: Any, where: str) -> dict[str, Any]:
    """The fields of configs/models/NAME.yaml; none where no size is named."""
    if name is None:
        return {}
    folder = resources.files("hzlm.configs") / "models"
    known = sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))
    if name not in known:
        raise UserError(f"{where}: model.size = {name!r}: {_unknown('size', str(name), known)}")
    fields: dict[str, Any] = parse_yaml((folder / f"{name}.yaml").read_text("utf-8"), f"{name}.yaml")
    return fields


def _parse_override(text: str) -> tuple[str, Any]:
    dotted, separator, value = text.partition("=")
    parts = dotted.split(".")
    if not separator or not all(parts) or len(parts) > DEEPEST:
        raise UserError(f"override {text}: expected section.key=value, for example train.steps=1000")
    try:
        dotted.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"override {text}: no UTF-8 text; convert it to UTF-8 first") from None
    return dotted, parse_yaml(value, f"override {text}")


def _replace(values: dict[str, Any], dotted: str, value: Any, where: str) -> None:
    *parents, key = dotted.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"{where}: {parent} is no section")
    values.update(_size(value, where) if dotted == "model.size" else {key: value})


def _explain(error: ValidationError, path: str, origins: dict[str, str]) -> str:
    """One line for the first mistake. An unknown key goes first: it is often the reason why another is missing."""
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    dotted = ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "json_invalid":
            return f"{path}: values are nested too deeply; a config is sections of fields"
        case "missing":
            return f"{path}: {dotted} is missing; add it"
        case "value_error":
            text = str(first["ctx"]["error"])
            where = next((origin for key, origin in origins.items() if key in text), path)
            return f"{where}: {text}"
    # The mistake may lie inside what an override sets, or around it (an unknown section).
    where = path
    for key, origin in origins.items():
        if f"{dotted}.".startswith(f"{key}.") or f"{key}.".startswith(f"{dotted}."):
            where = origin
    if first["type"] == "extra_forbidden":
        return f"{where}: {dotted}: {_unknown('key', str(first['loc'][-1]), _keys(first['loc'][:-1]))}"
    expected = first["msg"].replace("Input should be", "must be").replace("an object", "a mapping")
    return f"{where}: {dotted} = {json.dumps(first['input'], ensure_ascii=False)}: {expected}"


def _keys(section: Iterable[int | str]) -> list[str]:
    """The keys that a section knows; the empty path is the whole file."""
    fields = RunConfig.model_fields
    for name in section:
        annotation = fields[str(name)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            return []
        fields = annotation.model_fields
    return [*fields, "size"] if fields is ModelConfig.model_fields else list(fields)


def _unknown(kind: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"unknown {kind}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
