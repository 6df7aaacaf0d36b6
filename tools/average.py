"""Averaging the weights of checkpoints: one model that is often better than each of them.

The arithmetic mean of the last checkpoints of one run, as in Vaswani et al. 2017 (arXiv 1706.03762, section 6.1).
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hzlm.errors import UserError
from hzlm.model.checkpoint_files import CHECKPOINTS, STEP_FOLDER
from hzlm.model.pretrained import Checkpoint, find_checkpoint, list_checkpoints
from hzlm.stored_files import force_to_disk
from hzlm.train.checkpoint_write import finish_checkpoint, write_model


def last_checkpoints(run: Path, count: int) -> list[Path]:
    """The newest checkpoints of a run, by their step; an older one that is kept as the best is none of them.

    Raises:
        UserError: `run` is no run folder with a checkpoint, or keeps fewer.
    """
    latest = find_checkpoint(run)
    if latest is None or latest.parent != run / CHECKPOINTS:
        raise UserError(f"{run}: no run of hzlm train with a checkpoint is here; pass its train.output")
    found = list_checkpoints(latest.parent)
    past = found[: found.index(latest) + 1]
    keep_last = Checkpoint.open(latest).config.train.keep_last
    newest = past[-keep_last:]
    if len(newest) < count:
        raise UserError(
            f"{run}: of its last {count} checkpoints {len(newest)} are there (train.keep_last = {keep_last}); average "
            "those, or train with a higher train.keep_last"
        )
    return newest[-count:]


def average_checkpoints(paths: Sequence[Path], output: Path) -> None:
    """Writes the mean of the weights of checkpoints as a checkpoint without moments.

    The weights are the averages where a checkpoint has them, else the float32 masters; the mean is taken in float64.
    Config, data and step are those of the checkpoint with the most steps. A run cannot go on from the output, but it
    can be loaded, and start a run as train.initial_weights.

    Args:
        paths: one or more checkpoints, as `find_checkpoint` takes them.
        output: the folder to write, which does not exist.

    Raises:
        UserError: the output exists; a checkpoint is missing or damaged, or is of another model than the newest one.
        OSError: it cannot be written; then nothing is left of it.
    """
    if output.exists():
        raise UserError(f"{output}: exists; choose another --output, or delete it")
    if STEP_FOLDER.fullmatch(output.name):
        raise UserError(f"{output}: a run would take it for a checkpoint of its own; choose another name")
    checkpoints = [Checkpoint.open(path) for path in paths]
    newest = max(checkpoints, key=lambda checkpoint: checkpoint.manifest["step"])
    for checkpoint in checkpoints:
        _check_model(checkpoint, newest)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        written = write_model(temporary, _mean(checkpoints, newest))
        described = {key: newest.manifest[key] for key in _OF_THE_RUN} | {"dev": None}
        described["average_of"] = [str(checkpoint.folder) for checkpoint in checkpoints]
        finish_checkpoint(temporary, newest.config, newest.vocabulary, described, [written])
        temporary.rename(output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    force_to_disk(output.parent)


_OF_THE_RUN = ("layout", "vocabulary", "datasets", "step", "optimizer_steps", "cursor")
"""What the manifest of the mean says as the newest checkpoint does."""


def _entries(checkpoint: Checkpoint) -> dict[str, Any]:
    """The tensors that are averaged, by name."""
    entries: dict[str, Any] = checkpoint.manifest["tensors"][checkpoint.best_kind("masters")]
    return entries


def _check_model(checkpoint: Checkpoint, newest: Checkpoint) -> None:
    """Raises UserError where a mean with the newest one would mean nothing."""
    if checkpoint.manifest["vocabulary"] != newest.manifest["vocabulary"]:
        raise UserError(
            f"{checkpoint.folder}: has another vocabulary than {newest.folder}; average checkpoints of one vocabulary"
        )
    ours, theirs = (other.config.model.model_dump() for other in (checkpoint, newest))
    # dropout rates change no weight's meaning
    for field in sorted(ours.keys() - {"dropout", "attention_dropout", "activation_dropout"}):
        if ours[field] != theirs[field]:
            raise UserError(
                f"{checkpoint.folder}: its model.{field} is {ours[field]}, and {theirs[field]} in {newest.folder}; "
                "average checkpoints of one model"
            )


def _mean(checkpoints: Sequence[Checkpoint], newest: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """One tensor after the other, so that only the mean lies in memory as a whole."""
    for name in _entries(newest):
        total = sum(checkpoint.tensor(checkpoint.best_kind("masters"), name).double() for checkpoint in checkpoints)
        assert isinstance(total, Tensor)
        yield name, (total / len(checkpoints)).float()
