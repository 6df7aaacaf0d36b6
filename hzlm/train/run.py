"""A training run from its config to its last checkpoint: `hzlm train`."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hzlm.config import RunConfig
from hzlm.data.batches import BatchReader, MicroBatch, Pairing
from hzlm.data.blend import Blend
from hzlm.data.views import ViewMixture
from hzlm.errors import UserError, share
from hzlm.launch.environment import keep_freed_memory
from hzlm.model.checkpoint_files import CHECKPOINTS
from hzlm.model.pretrained import Checkpoint
from hzlm.parallel.mesh import Mesh
from hzlm.parallel_config import ParallelConfig
from hzlm.settings import save_settings
from hzlm.stored_files import replacing
from hzlm.train.agreement import on_every_rank, on_first_rank
from hzlm.train.apex_lamb import choose_lamb
from hzlm.train.checkpoint import RunState, open_together, resume, start_from, tidy_up
from hzlm.train.disk import full_disk_explained
from hzlm.train.engine import Engine, deepspeed_settings
from hzlm.train.loop import run_steps
from hzlm.train.ranks import compare, connect, lost_ranks_explained
from hzlm.train.recorder import OnCheckpoint
from hzlm.train.records import CONFIG_FILE, versions

DEEPSPEED_FILE = "deepspeed.json"

# the same rows in every run, so that runs can be compared
EVALUATION_SEED = 0

# what may differ when a run goes on: nothing here changes a number that was already computed
MAY_CHANGE = frozenset(
    {
        *("train.steps", "train.log_every", "train.evaluate_every", "train.save_every", "train.keep_last"),
        *("train.checks", "train.micro_batch_rows", "train.accumulation", "train.patience"),
        *(f"parallel.{name}" for name in ParallelConfig.model_fields),
    }
)


@dataclass(frozen=True)
class _Data:
    """What a rank reads."""

    blend: Blend
    reader: BatchReader
    dev: BatchReader | None


def train(config: RunConfig, on_checkpoint: OnCheckpoint | None = None) -> Path:
    """Trains until config.train.steps, or until config.train.patience ends the run early, from the run folder's latest
    checkpoint if it has one.

    With several processes (`parallel`) each of them calls this; a launcher has started them. Whatever layout wrote the
    checkpoint, another one can go on from it, as long as a step has as many rows.

    Args:
        config: of the run.
        on_checkpoint: called on the first rank with the folder of each checkpoint that was written at its regular time;
            what it returns, texts in Markdown by name, goes to TensorBoard.

    Returns:
        The run folder: config.yaml, deepspeed.json, metrics.jsonl, history.jsonl, tensorboard/, checkpoints/.

    Raises:
        UserError: the data cannot be used, the run folder belongs to a run with another config or more steps, there
            are not as many processes as the layout needs, or they do not have the same config, data and versions.
        OSError: the disk is full; what is whole stays whole. ConnectionError: another process has ended.
        Stopped: SIGTERM or Ctrl-C came while it trained in the main thread; the run is saved and can go on.
    """
    keep_freed_memory()
    mesh = connect(config.parallel)
    with full_disk_explained(config.train.output), lost_ranks_explained(config.parallel):
        _train(config, on_checkpoint, mesh)
    return config.train.output


def _train(config: RunConfig, on_checkpoint: OnCheckpoint | None, mesh: Mesh) -> None:
    folder = config.train.output
    data = _open_data(config, mesh)
    facts = {**flatten(config), **data.blend.fingerprints, **versions(), "LAMB": choose_lamb(mesh).__name__}
    compare(facts, mesh.world)
    evaluation = _evaluation_batches(config, data)
    checkpoint = open_together(folder, mesh)
    if checkpoint is not None:
        on_first_rank(lambda: _check_config(config, checkpoint), mesh.world)
    engine = Engine(config, data.blend.vocabulary, mesh)
    progress = _begin(config, engine, data.blend, checkpoint)
    on_first_rank(lambda: _claim_folder(config), mesh.world)
    steps, patience = config.train.steps, config.train.patience
    if progress.step < steps and not progress.patience.is_over(patience):
        if mesh.world.index == 0:
            print(f"training {folder.name}: {_describe_data(data)}", file=sys.stderr, flush=True)
            if not evaluation:
                print("no dev split: nothing is measured, and no checkpoint is the best", file=sys.stderr, flush=True)
        progress = run_steps(config, engine, data.blend, data.reader, evaluation, progress, on_checkpoint)
    if progress.step < steps and mesh.world.index == 0:
        text = f"{folder.name} {progress.patience.reason}, at step {progress.step:,} of {steps:,}"
        print(f"{text}; raise train.patience to go on", file=sys.stderr, flush=True)


def _open_data(config: RunConfig, mesh: Mesh) -> _Data:
    """A collective call, since all raise where one rank cannot read."""
    opened: list[_Data] = []

    def open_own() -> None:
        blend = Blend.open(config.data, "train")
        views = ViewMixture(config.data, blend.vocabulary)
        reader = BatchReader(blend, config.data, config.train.seed, mesh, config.pairing, views)
        blend.check_lengths(config.model.max_length, "model.max_length")
        dev = Blend.open(config.data, "dev")
        dev.check_lengths(config.model.max_length, "model.max_length")
        # what differs in dropout alone is measured once
        pairing: Pairing = "views" if config.pairing == "views" else "none"
        dev_reader = BatchReader(dev, config.data, EVALUATION_SEED, mesh, pairing, views) if dev.datasets else None
        opened.append(_Data(blend, reader, dev_reader))

    on_every_rank(open_own, mesh.world)
    return opened[0]


def _begin(config: RunConfig, engine: Engine, blend: Blend, checkpoint: Checkpoint | None) -> RunState:
    """Puts the state that the run goes on from, or starts with, into the engine."""
    if checkpoint is not None:
        progress = resume(checkpoint, engine, blend)
        checkpoints = config.train.output / CHECKPOINTS
        on_first_rank(lambda: tidy_up(checkpoints, config.train.keep_last), engine.mesh.world)
        return progress
    if config.train.initial_weights is not None:
        start_from(config.train.initial_weights, engine, blend.vocabulary)
    return RunState(0, cursor=0)


def _evaluation_batches(config: RunConfig, data: _Data) -> list[MicroBatch]:
    """A fixed part of the dev split under the views of the run; empty where the split is."""
    plan = config.train
    if data.dev is None:
        if plan.patience is not None:
            raise share(
                UserError(
                    f"train.patience = {plan.patience} counts measurements, but there is an empty dev set and so "
                    "nothing to measure on; prepare the data with a dev split, or make train.patience null"
                )
            )
        return []
    return data.dev.one_pass(plan.micro_batch_rows, plan.evaluate_rows, at_least=config.parallel.stage_count)


def _describe_data(data: _Data) -> str:
    """Each dataset with its share of the positions, what there is, and how full the rows are."""
    blend = data.blend
    parts = zip(blend.datasets, blend.position_shares, strict=True)
    shares = ", ".join(f"{dataset.folder} ({share:.1%})" for dataset, share in parts)
    sentences = sum(len(dataset) for dataset in blend.datasets)
    positions = sum(dataset.info["positions"] for dataset in blend.datasets)
    return f"{shares}, {sentences:,} sentences, {positions:,} positions; rows {data.reader.efficiency:.1%} full"


def _check_config(config: RunConfig, checkpoint: Checkpoint) -> None:
    """A run goes on only with the config it began with, however laid out, and not backwards."""
    folder = config.train.output
    began = checkpoint.config
    before, now = flatten(began), flatten(config)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and key not in MAY_CHANGE:
            raise UserError(
                f"{folder}: this run began with {key} = {before.get(key)}, not {now.get(key)}; "
                "set it back, or choose another train.output"
            )
    if began.step_rows != config.step_rows:
        raise UserError(
            f"{folder}: a step of this run has {began.step_rows} rows, not {config.step_rows}; change "
            "train.micro_batch_rows x train.accumulation x parallel.data back to that, or choose another train.output"
        )
    if config.loss.contrastive_weight > 0 and began.group_rows != config.group_rows:
        raise UserError(
            f"{folder}: the negatives of this run's contrastive loss come from {began.group_rows} rows, not "
            f"{config.group_rows}; change train.micro_batch_rows x parallel.data back to that, or choose another "
            "train.output"
        )
    step = checkpoint.manifest["step"]
    warm = min(began.train.steps, config.train.steps) - config.schedule.cooldown_steps
    if config.schedule.cooldown_steps > 0 and config.train.steps != began.train.steps and step > warm:
        raise UserError(
            f"{folder}: this run was to end after {began.train.steps} steps and has made {step}, so that its cool-down "
            f"would not begin where it should with {config.train.steps}; set train.steps back to that, or start "
            "another run from it by train.initial_weights"
        )
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


def flatten(config: RunConfig) -> dict[str, Any]:
    """Every value of a config by section.key."""
    sections = config.model_dump(mode="json")
    return {f"{section}.{key}": value for section, fields in sections.items() for key, value in fields.items()}
