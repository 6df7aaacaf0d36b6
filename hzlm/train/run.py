"""A training run from its config to its last checkpoint: `hzlm train`."""

import json
import time
from pathlib import Path
from typing import Any

from hzlm.config import RunConfig, load_config, save_config
from hzlm.data.batches import BatchReader, MicroBatch, StepBatch
from hzlm.data.dataset import Dataset
from hzlm.data.sampling import Cursor
from hzlm.errors import UserError
from hzlm.launch.environment import keep_freed_memory
from hzlm.model.losses import SideLoss
from hzlm.model.pretrained import Checkpoint, find_checkpoint
from hzlm.progress import Progress as ProgressBar
from hzlm.train.checkpoint import Progress, resume, save_checkpoint, start_from
from hzlm.train.engine import Engine, StepResult, deepspeed_settings
from hzlm.train.monitor import Monitor
from hzlm.train.schedule import inverse_square_root

CONFIG_FILE = "config.yaml"
DEEPSPEED_FILE = "deepspeed.json"

# the same rows in every run, so that runs can be compared
EVALUATION_SEED = 0

# what may differ when a run goes on: nothing here changes a number that was already computed
MAY_CHANGE = frozenset(
    {"train.steps", "train.log_every", "train.evaluate_every", "train.evaluate_rows", "train.save_every",
     "train.keep_last"}
)  # fmt: skip


def train(config: RunConfig) -> Path:
    """Trains until config.train.steps, from the run folder's latest checkpoint if it has one.

    Returns:
        The run folder: config.yaml, deepspeed.json, metrics.jsonl, tensorboard/, checkpoints/.

    Raises:
        UserError: the data cannot be used, or the run folder belongs to a run with another config.
    """
    keep_freed_memory()
    folder = config.train.output
    dataset = Dataset.open(config.data.path, "train")
    reader = BatchReader(dataset, config.data, config.train.seed)
    _check_lengths(dataset, config.model.max_length)
    evaluation = _evaluation_batches(config)
    found = find_checkpoint(folder)
    _claim_folder(folder, config, resumed=found is not None)
    engine = Engine(config, dataset.vocabulary)
    if found is not None:
        progress = resume(Checkpoint.open(found), engine, dataset)
    else:
        progress = Progress(0, Cursor())
        if config.train.initial_weights is not None:
            start_from(config.train.initial_weights, engine, dataset.vocabulary)
    if progress.step < config.train.steps:
        _loop(config, engine, dataset, reader, evaluation, progress)
    return folder


def _loop(
    config: RunConfig,
    engine: Engine,
    dataset: Dataset,
    reader: BatchReader,
    evaluation: list[MicroBatch],
    progress: Progress,
) -> None:
    plan = config.train
    steps = reader.steps(progress.cursor, plan.micro_batch_rows, plan.accumulation)
    watch = _Stopwatch()
    bar = ProgressBar(plan.steps, f"training {plan.output.name}", "steps", initial=progress.step)
    with Monitor(plan.output, progress.step + 1) as monitor, bar:
        for step in range(progress.step + 1, plan.steps + 1):
            batch = next(steps)
            rate = inverse_square_root(
                step, config.schedule.scale, config.model.hidden_size, config.schedule.warmup_steps
            )
            result = engine.train_step(batch.micro_batches, step, rate)
            watch.count(batch)
            last = step == plan.steps
            values: dict[str, float] = {}
            if step % plan.log_every == 0 or step == 1 or last:
                values |= _describe(result, rate) | watch.read()
            if evaluation and (step % plan.evaluate_every == 0 or last):
                values |= _describe_evaluation(engine.evaluate(evaluation))
                watch.restart()
            if values:
                monitor.write(step, values)
            if step % plan.save_every == 0 or last:
                monitor.flush()
                now = Progress(step, batch.cursor)
                save_checkpoint(plan.output, engine, config, dataset, now, plan.keep_last)
                watch.restart()
            bar.advance(1, note=f"loss {_total(result):.3f}")


def _evaluation_batches(config: RunConfig) -> list[MicroBatch]:
    """A fixed part of the dev split under the views of the run; empty where the split is."""
    dev = Dataset.open(config.data.path, "dev")
    if len(dev) == 0:
        return []
    _check_lengths(dev, config.model.max_length)
    reader = BatchReader(dev, config.data, EVALUATION_SEED)
    return reader.one_pass(config.train.micro_batch_rows, config.train.evaluate_rows)


def _check_lengths(dataset: Dataset, max_length: int) -> None:
    longest = int(dataset.lengths.max())
    if longest > max_length:
        raise UserError(
            f"model.max_length is {max_length}, but {dataset.folder} holds a sentence of {longest} characters: "
            "raise it, or prepare the text with a smaller --max-length"
        )


def _claim_folder(folder: Path, config: RunConfig, resumed: bool) -> None:
    """Writes the resolved config and the DeepSpeed settings. A run goes on only with the config it began with."""
    path = folder / CONFIG_FILE
    if resumed and path.is_file():
        before, now = _flatten(load_config(path)), _flatten(config)
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and key not in MAY_CHANGE:
                raise UserError(
                    f"{folder}: this run began with {key} = {before.get(key)}, not {now.get(key)}; "
                    "set it back, or choose another train.output"
                )
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, path)
    (folder / DEEPSPEED_FILE).write_text(json.dumps(deepspeed_settings(config), indent=2) + "\n", "utf-8")


def _flatten(config: RunConfig) -> dict[str, Any]:
    sections = config.model_dump(mode="json")
    return {f"{section}.{key}": value for section, fields in sections.items() for key, value in fields.items()}


def _describe(result: StepResult, learning_rate: float) -> dict[str, float]:
    losses = {f"train/{side}_loss": float(part.loss) for side, part in result.losses.items()}
    return losses | {
        "train/loss": _total(result),
        "train/accuracy": _accuracy(result.losses),
        "train/learning_rate": learning_rate,
        "train/gradient_norm": result.gradient_norm,
    }


def _total(result: StepResult) -> float:
    return sum(float(part.loss) * part.factor for part in result.losses.values())


def _accuracy(losses: dict[str, SideLoss]) -> float:
    part = losses.get("decoder") or losses["encoder"]
    return part.correct / max(1, part.counted)


def _describe_evaluation(losses: dict[str, SideLoss]) -> dict[str, float]:
    values = {f"dev/{side}_loss": float(part.loss) for side, part in losses.items()}
    return values | {"dev/accuracy": _accuracy(losses)}


class _Stopwatch:
    """Positions since the last reading: how fast they went, and how many of them held a character."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start = time.perf_counter()
        self._real = self._all = 0

    def count(self, batch: StepBatch) -> None:
        self._real += sum(part.real_positions for part in batch.micro_batches)
        self._all += sum(part.segments.numel() for part in batch.micro_batches)

    def read(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._start
        values = {"train/tokens_per_second": self._real / seconds, "train/real_positions": self._real / self._all}
        self.restart()
        return values
