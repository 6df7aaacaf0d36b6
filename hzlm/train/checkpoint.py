"""Writing checkpoints, and going on from them: whatever the layout that writes, and that which reads.

A checkpoint is written under a temporary name, forced to the disk and renamed; `latest` is changed last. So what
`latest` names is whole at every moment. All that follows, which checkpoint is the best and which are no longer kept, is
a function of what lies on the disk: where a run was killed in the middle of it, the next start brings it to its end.

No state of a random generator is stored: everything random is derived from (seed, purpose, step), and the order of the
data from (seed, cursor).
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from hzlm.config import RunConfig
from hzlm.data.blend import Blend
from hzlm.errors import UserError
from hzlm.model.checkpoint_files import BEST, CHECKPOINTS, LATEST
from hzlm.model.pretrained import Checkpoint, find_checkpoint, list_checkpoints, read_manifest
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import logical_shape, sharding_of
from hzlm.stored_files import force_to_disk, replacing
from hzlm.train.agreement import on_every_rank, on_first_rank
from hzlm.train.checkpoint_write import finish_checkpoint, states_of, write_tensors
from hzlm.train.engine import Engine
from hzlm.train.noise import NoiseScale
from hzlm.train.patience import Patience
from hzlm.vocabulary import Vocabulary


@dataclass(frozen=True)
class RunState:
    """How far a run has come: optimizer steps made, the next row of its data, and what it has measured."""

    step: int
    cursor: int
    noise: NoiseScale = field(default_factory=NoiseScale)
    patience: Patience = field(default_factory=Patience)


def save_checkpoint(
    config: RunConfig,
    engine: Engine,
    blend: Blend,
    progress: RunState,
    scores: Mapping[str, float] | None,
    mesh: Mesh,
) -> Path:
    """Writes checkpoints/step_N of the run, points `latest` to it, tidies up; a collective call of all ranks.

    Every rank writes what it holds; rank 0 does the rest.

    Args:
        config: of the run.
        engine: whose state is saved.
        blend: that it is trained on.
        progress: how far it has come.
        scores: what was measured on the dev split, by name; "loss" decides which checkpoint is the best. None where
            nothing was measured.
        mesh: the place of this rank.

    Returns:
        The folder of the checkpoint.

    Raises:
        OSError: it cannot be written, by some rank: then all raise, as `on_every_rank` does. What is there of it is
            removed, and `latest` names what it named before; only where pointing `latest` to it fails, a whole
            checkpoint stays that the next start removes.
    """
    folder = config.train.output / CHECKPOINTS
    final = folder / f"step_{progress.step:08d}"
    temporary = _partial(final)
    on_first_rank(lambda: _make_anew(temporary), mesh.world)
    try:
        written = on_every_rank(lambda: write_tensors(temporary, engine.parameters, mesh), mesh.world)

        def finish() -> None:
            manifest = _describe(engine, blend, progress, mesh) | {"dev": scores}
            finish_checkpoint(temporary, config, blend.vocabulary, manifest, written)
            temporary.rename(final)
            force_to_disk(folder)
            _point(folder / LATEST, final)
            tidy_up(folder, config.train.keep_last)

        on_first_rank(finish, mesh.world)
    except BaseException:
        if mesh.world.index == 0:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def tidy_up(folder: Path, keep_last: int) -> None:
    """Points `best` to the best checkpoint up to the latest one, and removes what is not kept.

    The best one has the lowest loss on the dev split, the earliest of several. Kept are the best one and the
    last `keep_last`. What a killed run left goes too: partial checkpoints, and steps beyond the latest, which are
    being made again. With several ranks it is for rank 0 alone (`on_first_rank`).

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


def open_together(path: Path, mesh: Mesh) -> Checkpoint | None:
    """The checkpoint of a run folder, if it has one; a collective call. Rank 0 alone verifies its files.

    Raises:
        UserError: as `Checkpoint.open`, on all ranks.
    """
    return on_first_rank(lambda: None if find_checkpoint(path) is None else Checkpoint.open(path), mesh.world)


def resume(checkpoint: Checkpoint, engine: Engine, blend: Blend) -> RunState:
    """Puts masters, moments, averages, update count and loss scale of a checkpoint into the engine; a collective call.

    Raises:
        UserError: the data is not what the run was trained on so far.
    """
    manifest = checkpoint.manifest
    on_every_rank(lambda: _check_data(checkpoint, blend), engine.mesh.world)
    _load(checkpoint, {kind: kind for kind in states_of(engine.parameters)}, engine)
    engine.restore(manifest["optimizer_steps"], manifest["loss_scale"])
    patience = Patience(**manifest.get("patience", {}))  # a checkpoint of before it was counted has none
    return RunState(manifest["step"], manifest["cursor"], NoiseScale(**manifest["noise"]), patience)


def start_from(path: Path, engine: Engine, vocabulary: Vocabulary) -> None:
    """Starts a new run with the weights of another run, averaged ones where it has them; a collective call.

    Raises:
        UserError: there is no such run, or it has another vocabulary or another shape of model.
    """

    def open_fitting() -> Checkpoint:
        checkpoint = Checkpoint.open(path)
        if checkpoint.vocabulary.fingerprint != vocabulary.fingerprint:
            raise UserError(
                f"train.initial_weights: {checkpoint.folder} was trained with another vocabulary than the dataset's; "
                f"prepare the dataset with vocabulary.path={checkpoint.folder / 'vocabulary.json'}"
            )
        return checkpoint

    checkpoint = on_first_rank(open_fitting, engine.mesh.world)
    held = [kind for kind in states_of(engine.parameters) if kind in ("masters", "averages")]
    _load(checkpoint, dict.fromkeys(held, checkpoint.best_kind("masters")), engine)
    engine.restore()


def _make_anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _describe(engine: Engine, blend: Blend, progress: RunState, mesh: Mesh) -> dict[str, Any]:
    """What the manifest says of the run."""
    return {
        "layout": {"pipe": mesh.pipe.size, "data": mesh.data.size, "tensor": mesh.tensor.size},
        "vocabulary": blend.vocabulary.fingerprint,
        "datasets": blend.fingerprints,
        "step": progress.step,
        "optimizer_steps": engine.optimizer_steps,
        "loss_scale": engine.loss_scale_state(),
        "cursor": progress.cursor,
        "noise": asdict(progress.noise),
        "patience": asdict(progress.patience),
    }


def _check_data(checkpoint: Checkpoint, blend: Blend) -> None:
    for dataset in blend.datasets:
        if checkpoint.manifest["datasets"].get(str(dataset.folder)) != dataset.fingerprint:
            raise UserError(
                f"{dataset.folder}: not the data that {checkpoint.folder} was trained on; put that back, or choose "
                "another train.output and start it from there by train.initial_weights"
            )


def _load(checkpoint: Checkpoint, kinds: Mapping[str, str], engine: Engine) -> None:
    """Reads what this rank holds of each tensor; a collective call, since all raise where one cannot read.

    kinds: by the fields of `ParameterState` that they go to.
    """
    world = engine.mesh.world
    expected: dict[str, Sequence[int]] = {}
    for shapes in on_every_rank(lambda: _shapes(engine), world):
        expected |= shapes
    for kind in kinds.values():
        checkpoint.check_shapes(expected, kind)
    on_every_rank(lambda: _read_part(checkpoint, kinds, engine), world)


def _shapes(engine: Engine) -> dict[str, tuple[int, ...]]:
    return {name: logical_shape(state.weight) for name, state in engine.parameters.items()}


@torch.no_grad()
def _read_part(checkpoint: Checkpoint, kinds: Mapping[str, str], engine: Engine) -> None:
    for name, state in engine.parameters.items():
        sharding = sharding_of(state.weight)
        for field_name, kind in kinds.items():
            own = getattr(state, field_name)
            if own.numel():
                whole = checkpoint.tensor(kind, name)
                shard = whole if sharding is None else sharding.take(whole)
                own.copy_(shard.flatten()[state.start : state.start + own.numel()])


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
