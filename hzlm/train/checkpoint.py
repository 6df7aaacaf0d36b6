"""Writing checkpoints, and going on from them.

A checkpoint is written under a temporary name, forced to the disk and renamed; `latest` is changed last. So what
`latest` names is whole at every moment.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hzlm.config import RunConfig, save_config
from hzlm.data.dataset import Dataset
from hzlm.data.sampling import Cursor
from hzlm.errors import UserError
from hzlm.model.pretrained import CHECKPOINTS, FORMAT, LATEST, MANIFEST, VERSION, Checkpoint, check_names
from hzlm.train.engine import Engine
from hzlm.vocabulary import Vocabulary

# a file of a checkpoint holds at most about this many bytes of tensors
SHARD_BYTES = 2 << 30


@dataclass(frozen=True)
class Progress:
    """How far a run has come: optimizer steps made, and the next row of its data."""

    step: int
    cursor: Cursor


def save_checkpoint(
    run_folder: Path, engine: Engine, config: RunConfig, dataset: Dataset, progress: Progress, keep_last: int
) -> Path:
    """Writes checkpoints/step_N of the run, points `latest` to it, removes all but the newest `keep_last`."""
    folder = run_folder / CHECKPOINTS
    final = folder / f"step_{progress.step:08d}"
    temporary = folder / f".{final.name}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_config(config, temporary / "config.yaml")
    dataset.vocabulary.save(temporary / "vocabulary.json")
    tensors = {kind: _write(temporary, kind, named) for kind, named in _tensors_by_kind(engine).items()}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "vocabulary": dataset.vocabulary.fingerprint,
        "dataset": dataset.fingerprint,
        "step": progress.step,
        "optimizer_steps": engine.optimizer_steps,
        "cursor": asdict(progress.cursor),
        "tensors": tensors,
        "files": {path.name: _describe(path) for path in sorted(temporary.iterdir())},
    }
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
    for path in temporary.iterdir():
        _force_to_disk(path)
    _force_to_disk(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _point_latest(folder, final.name)
    _remove_old(folder, final.name, keep_last)
    return final


def resume(checkpoint: Checkpoint, engine: Engine, dataset: Dataset) -> Progress:
    """Puts weights, masters, moments and the update count of a checkpoint into the engine.

    Raises:
        UserError: the data is not what the run was trained on so far.
    """
    if checkpoint.manifest["dataset"] != dataset.fingerprint:
        raise UserError(
            f"{dataset.folder}: not the data that {checkpoint.folder} was trained on; put that back, or choose "
            "another train.output and start it from there by train.initial_weights"
        )
    for kind in ("masters", "exp_avg", "exp_avg_sq"):
        _load(checkpoint, kind, engine)
    engine.restore(checkpoint.manifest["optimizer_steps"])
    return Progress(checkpoint.manifest["step"], Cursor(**checkpoint.manifest["cursor"]))


def start_from(path: Path, engine: Engine, vocabulary: Vocabulary) -> None:
    """Starts a new run with the weights of another run. Raises UserError where their vocabularies differ."""
    checkpoint = Checkpoint.open(path)
    if checkpoint.vocabulary.fingerprint != vocabulary.fingerprint:
        raise UserError(
            f"train.initial_weights: {checkpoint.folder} was trained with another vocabulary than the dataset's; "
            f"prepare the dataset with --vocabulary {checkpoint.folder / 'vocabulary.json'}"
        )
    _load(checkpoint, "masters", engine)
    engine.restore()


def _tensors_by_kind(engine: Engine) -> dict[str, dict[str, Tensor]]:
    parameters = engine.parameters
    shaped: dict[str, dict[str, Tensor]] = {
        kind: {name: getattr(state, kind).view(state.weight.shape) for name, state in parameters.items()}
        for kind in ("masters", "exp_avg", "exp_avg_sq")
    }
    return {"weights": {name: state.weight.detach() for name, state in parameters.items()}, **shaped}


def _write(folder: Path, kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Writes the tensors of one kind into as many files as they need; returns their manifest entries."""
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if filled + tensor.nbytes > SHARD_BYTES and shards[-1]:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor.cpu().contiguous()
        filled += tensor.nbytes
    entries = {}
    for number, shard in enumerate(shards):
        file = f"{kind}-{number:05d}.safetensors"
        save_file(shard, folder / file)
        for name, tensor in shard.items():
            shape = list(tensor.shape)
            entries[name] = {"shape": shape, "pieces": [{"file": file, "offset": [0] * len(shape)}]}
    return entries


@torch.no_grad()
def _load(checkpoint: Checkpoint, kind: str, engine: Engine) -> None:
    stored = checkpoint.read(kind)
    check_names(stored, {name: state.weight for name, state in engine.parameters.items()}, checkpoint.folder)
    for name, state in engine.parameters.items():
        getattr(state, kind).copy_(stored[name].flatten())


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point_latest(folder: Path, name: str) -> None:
    temporary = folder / f".{LATEST}.partial"
    temporary.write_text(name + "\n", "utf-8")
    _force_to_disk(temporary)
    temporary.rename(folder / LATEST)
    _force_to_disk(folder)


def _remove_old(folder: Path, current: str, keep_last: int) -> None:
    """Also removes what a killed start of the run left: partial checkpoints, and steps that are being made again."""
    steps = sorted(folder.glob("step_*"))
    past = [step for step in steps if step.name <= current]
    for old in [*past[:-keep_last], *steps[len(past) :], *folder.glob(".step_*.partial")]:
        shutil.rmtree(old)
