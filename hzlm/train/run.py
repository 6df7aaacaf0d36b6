"""A training run from its config to its last checkpoint: `hzlm train`."""

import json
import sys
from pathlib import Path
from typing import Any

from hzlm.config import RunConfig
from hzlm.data.batches import BatchReader, MicroBatch
from hzlm.data.blend import Blend
from hzlm.errors import UserError
from hzlm.launch.environment import keep_freed_memory
from hzlm.model.checkpoint_files import CHECKPOINTS
from hzlm.model.pretrained import Checkpoint, find_checkpoint
from hzlm.settings import save_settings
from hzlm.stored_files import replacing
from hzlm.train.checkpoint import RunState, resume, start_from, tidy_up
from hzlm.train.disk import full_disk_explained
from hzlm.train.engine import Engine, deepspeed_settings
from hzlm.train.loop import OnCheckpoint, run_steps
from hzlm.train.records import CONFIG_FILE

DEEPSPEED_FILE = "deepspeed.json"

# the same rows in every run, so that runs can be compared
EVALUATION_SEED = 0

# what may differ when a run goes on: nothing here changes a number that was already computed
MAY_CHANGE = frozenset(
    {"train.steps", "train.log_every", "train.evaluate_every", "train.save_every", "train.keep_last"}
)


def train(config: RunConfig, on_checkpoint: OnCheckpoint | None = None) -> Path:
    """Trains until config.train.steps, from the run folder's latest checkpoint if it has one.

    Args:
        config: of the run.
        on_checkpoint: called with the folder of each checkpoint that was written at its regular time; what it
            returns, texts in Markdown by name, goes to TensorBoard.

    Returns:
        The run folder: config.yaml, deepspeed.json, metrics.jsonl, history.jsonl, tensorboard/, checkpoints/.

    Raises:
        UserError: the data cannot be used, or the run folder belongs to a run with another config or more steps.
        OSError: the disk is full; what is whole stays whole.
        Stopped: SIGTERM or Ctrl-C came while it trained in the main thread; the run is saved and can go on.
    """
    keep_freed_memory()
    blend = Blend.open(config.data, "train")
    reader = BatchReader(blend, config.data, config.train.seed)
    blend.check_lengths(config.model.max_length, "model.max_length")
    evaluation = _evaluation_batches(config)
    folder = config.train.output
    with full_disk_explained(folder):
        checkpoint = Checkpoint.open(folder) if find_checkpoint(folder) is not None else None
        if checkpoint is not None:
            _check_config(config, checkpoint)
        engine = Engine(config, blend.vocabulary)
        progress = _begin(config, engine, blend, checkpoint)
        _claim_folder(config)
        if progress.step < config.train.steps:
            print(f"training {folder.name}: {_describe_data(blend, reader)}", file=sys.stderr, flush=True)
            run_steps(config, engine, blend, reader, evaluation, progress, on_checkpoint)
    return folder


def _begin(config: RunConfig, engine: Engine, blend: Blend, checkpoint: Checkpoint | None) -> RunState:
    """Puts the state that the run goes on from, or starts with, into the engine."""
    if checkpoint is not None:
        progress = resume(checkpoint, engine, blend)
        tidy_up(config.train.output / CHECKPOINTS, config.train.keep_last)
        return progress
    if config.train.initial_weights is not None:
        start_from(config.train.initial_weights, engine, blend.vocabulary)
    return RunState(0, cursor=0)


def _evaluation_batches(config: RunConfig) -> list[MicroBatch]:
    """A fixed part of the dev split under the views of the run; empty where the split is."""
    dev = Blend.open(config.data, "dev")
    if not dev.datasets:
        return []
    dev.check_lengths(config.model.max_length, "model.max_length")
    reader = BatchReader(dev, config.data, EVALUATION_SEED)
    return reader.one_pass(config.train.micro_batch_rows, config.train.evaluate_rows)


def _describe_data(blend: Blend, reader: BatchReader) -> str:
    """Each dataset with its share of the positions, what there is, and how full the rows are."""
    parts = zip(blend.datasets, blend.position_shares, strict=True)
    shares = ", ".join(f"{dataset.folder} ({share:.1%})" for dataset, share in parts)
    sentences = sum(len(dataset) for dataset in blend.datasets)
    positions = sum(dataset.info["positions"] for dataset in blend.datasets)
    return f"{shares}, {sentences:,} sentences, {positions:,} positions; rows {reader.efficiency:.1%} full"


def _check_config(config: RunConfig, checkpoint: Checkpoint) -> None:
    """A run goes on only with the config it began with, and not backwards."""
    folder = config.train.output
    before, now = _flatten(checkpoint.config), _flatten(config)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and key not in MAY_CHANGE:
            raise UserError(
                f"{folder}: this run began with {key} = {before.get(key)}, not {now.get(key)}; "
                "set it back, or choose another train.output"
            )
    step = checkpoint.manifest["step"]
    if config.train.steps < step:
        raise UserError(
            f"{folder}: train.steps is {config.train.steps}, but this run has already made {step}; "
            "raise it, or choose another train.output"
        )


def _claim_folder(config: RunConfig) -> None:
    """Writes the resolved config and the DeepSpeed settings."""
    folder = config.train.output
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / CONFIG_FILE) as path:
        save_settings(config, path)
    with replacing(folder / DEEPSPEED_FILE) as path:
        path.write_text(json.dumps(deepspeed_settings(config), indent=2) + "\n", "utf-8")


def _flatten(config: RunConfig) -> dict[str, Any]:
    sections = config.model_dump(mode="json")
    return {f"{section}.{key}": value for section, fields in sections.items() for key, value in fields.items()}
