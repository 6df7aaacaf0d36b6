"""Writing checkpoints, and going on from them.

A checkpoint is written under a temporary name, forced to the disk and renamed; `latest` is changed last. So what
`latest` names is whole at every moment. All that follows, which checkpoint is the best and which are no longer kept, is
a function of what lies on the disk: where a run was killed in the middle of it, the next start brings it to its end.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hzlm.config import RunConfig
from hzlm.data.blend import Blend
from hzlm.errors import UserError
from hzlm.model.checkpoint_files import BEST, CHECKPOINTS, LATEST, MANIFEST
from hzlm.model.pretrained import (
    FORMAT,
    VERSION,
    Checkpoint,
    check_names,
    checksum,
    find_checkpoint,
    list_checkpoints,
    read_manifest,
)
from hzlm.settings import save_settings
from hzlm.stored_files import describe_file, force_to_disk, replacing
from hzlm.train.engine import Engine
from hzlm.train.noise import NoiseScale
from hzlm.vocabulary import Vocabulary

# a file of a checkpoint holds at most about this many bytes of tensors
SHARD_BYTES = 2 << 30


@dataclass(frozen=True)
class RunState:
    """How far a run has come: optimizer steps made, the next row of its data, and what it has measured."""

    step: int
    cursor: int
    noise: NoiseScale = field(default_factory=NoiseScale)


def save_checkpoint(
    config: RunConfig, engine: Engine, blend: Blend, progress: RunState, scores: Mapping[str, float] | None
) -> Path:
    """Writes checkpoints/step_N of the run, points `latest` to it, tidies up.

    Args:
        config: of the run.
        engine: whose state is saved.
        blend: that it is trained on.
        progress: how far it has come.
        scores: what was measured on the dev split, by name; "loss" decides which checkpoint is the best. None where
            nothing was measured.

    Returns:
        The folder of the checkpoint.

    Raises:
        OSError: it cannot be written. What is there of it is removed, and `latest` names what it named before; only
            where pointing `latest` to it fails, a whole checkpoint stays that the next start removes.
    """
    folder = config.train.output / CHECKPOINTS
    final = folder / f"step_{progress.step:08d}"
    temporary = _partial(final)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write_checkpoint(temporary, config, engine, blend, progress, scores)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    temporary.rename(final)
    force_to_disk(folder)
    _point(folder / LATEST, final)
    tidy_up(folder, config.train.keep_last)
    return final


def tidy_up(folder: Path, keep_last: int) -> None:
    """Points `best` to the best checkpoint up to the latest one, and removes what is not kept.

    The best one has the lowest loss on the dev split, the earliest of several. Kept are the best one and the
    last `keep_last`. What a killed run left goes too: partial checkpoints, and steps beyond the latest, which are
    being made again.

    Args:
        folder: checkpoints/ of a run, with a checkpoint in it.
        keep_last: 1 or more.
    """
    latest = find_checkpoint(folder / LATEST)
    found = list_checkpoints(folder)
    if latest is None:
        latest = found[-1]
        _point(folder / LATEST, latest)
    past = found[: found.index(latest) + 1]
    losses = {path: loss for path in past if (loss := _dev_loss(path)) is not None}
    kept = set(past[-keep_last:])
    if losses:
        best = min(losses, key=losses.__getitem__)
        kept.add(best)
        _point(folder / BEST, best)
    else:
        (folder / BEST).unlink(missing_ok=True)
    for partial in folder.glob(".step_*.partial"):
        shutil.rmtree(partial)
    for old in found:
        if old not in kept:
            _remove(old)


def resume(checkpoint: Checkpoint, engine: Engine, blend: Blend) -> RunState:
    """Puts weights, masters, moments and the update count of a checkpoint into the engine.

    Raises:
        UserError: the data is not what the run was trained on so far.
    """
    for dataset in blend.datasets:
        if checkpoint.manifest["datasets"].get(str(dataset.folder)) != dataset.fingerprint:
            raise UserError(
                f"{dataset.folder}: not the data that {checkpoint.folder} was trained on; put that back, or choose "
                "another train.output and start it from there by train.initial_weights"
            )
    for kind in ("masters", "exp_avg", "exp_avg_sq"):
        _load(checkpoint, kind, engine)
    engine.restore(checkpoint.manifest["optimizer_steps"])
    manifest = checkpoint.manifest
    return RunState(manifest["step"], manifest["cursor"], NoiseScale(**manifest["noise"]))


def start_from(path: Path, engine: Engine, vocabulary: Vocabulary) -> None:
    """Starts a new run with the weights of another run. Raises UserError where their vocabularies differ."""
    checkpoint = Checkpoint.open(path)
    if checkpoint.vocabulary.fingerprint != vocabulary.fingerprint:
        raise UserError(
            f"train.initial_weights: {checkpoint.folder} was trained with another vocabulary than the dataset's; "
            f"prepare the dataset with vocabulary.path={checkpoint.folder / 'vocabulary.json'}"
        )
    _load(checkpoint, "masters", engine)
    engine.restore()


def _write_checkpoint(
    folder: Path,
    config: RunConfig,
    engine: Engine,
    blend: Blend,
    progress: RunState,
    scores: Mapping[str, float] | None,
) -> None:
    save_settings(config, folder / "config.yaml")
    blend.vocabulary.save(folder / "vocabulary.json")
    tensors = {kind: _write(folder, kind, named) for kind, named in _tensors_by_kind(engine).items()}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "vocabulary": blend.vocabulary.fingerprint,
        "datasets": blend.fingerprints,
        "step": progress.step,
        "optimizer_steps": engine.optimizer_steps,
        "cursor": progress.cursor,
        "noise": asdict(progress.noise),
        "dev": scores,
        "tensors": tensors,
        "files": {path.name: describe_file(path) for path in sorted(folder.iterdir())},
    }
    manifest["checksum"] = checksum(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
    for path in folder.iterdir():
        force_to_disk(path)
    force_to_disk(folder)


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
        _save_file(shard, folder / file)
        for name, tensor in shard.items():
            shape = list(tensor.shape)
            entries[name] = {"shape": shape, "pieces": [{"file": file, "offset": [0] * len(shape)}]}
    return entries


def _save_file(tensors: dict[str, Tensor], path: Path) -> None:
    """Raises OSError, as every other way of writing does; safetensors has an error of its own."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


@torch.no_grad()
def _load(checkpoint: Checkpoint, kind: str, engine: Engine) -> None:
    stored = checkpoint.read(kind)
    check_names(stored, {name: state.weight for name, state in engine.parameters.items()}, checkpoint.folder)
    for name, state in engine.parameters.items():
        getattr(state, kind).copy_(stored[name].flatten())


def _partial(checkpoint: Path) -> Path:
    return checkpoint.with_name(f".{checkpoint.name}.partial")


def _remove(checkpoint: Path) -> None:
    """Under its own name, half removed, it could be taken for whole."""
    checkpoint.rename(_partial(checkpoint))
    shutil.rmtree(_partial(checkpoint))


def _point(pointer: Path, checkpoint: Path) -> None:
    with replacing(pointer) as temporary:
        temporary.write_text(checkpoint.name + "\n", "utf-8")


def _dev_loss(checkpoint: Path) -> float | None:
    """None where it was not measured, is no number, or where the manifest is damaged."""
    try:
        scores = read_manifest(checkpoint)["dev"]
    except UserError:
        return None
    return scores["loss"] if scores is not None and math.isfinite(scores["loss"]) else None
