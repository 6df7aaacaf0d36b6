"""Reading a stored model: a checkpoint folder, or the run folder that holds it.

A checkpoint folder has manifest.json, config.yaml, vocabulary.json and safetensors files. The manifest names, for
each kind ("weights", "masters", "exp_avg", "exp_avg_sq", in some "averages") and each logical tensor, its shape and the
pieces that it is stored in (`hzlm.model.tensor_pieces`), each with its file and its key there: whoever reads does
not care who wrote. It holds the checksum of every other file, and its own. The files `latest` and `best` beside the
checkpoints of a run each name one of them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hzlm.config import RunConfig, load_config
from hzlm.errors import UserError
from hzlm.model.checkpoint_files import BEST, CHECKPOINTS, LATEST, MANIFEST, STEP_FOLDER, step_of
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.tensor_pieces import Piece, fault_of, join
from hzlm.stored_files import damage_of
from hzlm.stored_json import parse_json
from hzlm.vocabulary import Vocabulary

FORMAT = "hzlm-checkpoint"
VERSION = 4


class _DamageError(UserError):
    """A checkpoint is not as it was written; the text does not say yet what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, its manifest read and its files verified."""

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """The checkpoint that `find_checkpoint` finds, once every one of its files is known to be as it was written.

        Raises:
            UserError: there is none, it is damaged, or its vocabulary is not the one it was trained with.
        """
        folder = find_checkpoint(path)
        if folder is None:
            raise UserError(f"{path}: no checkpoint here; pass a run folder of `hzlm train` or one of its checkpoints")
        try:
            return cls(folder, _verify(folder))
        except _DamageError as error:
            raise UserError(f"{error}; {_name_another(folder.parent, folder)}") from error

    @property
    def config(self) -> RunConfig:
        """The config of the run that wrote it."""
        return load_config(self.folder / "config.yaml")

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the run that wrote it."""
        return Vocabulary.load(self.folder / "vocabulary.json")

    def best_kind(self, plain: str) -> str:
        """The kind to use the model by: "averages" where the run keeps them, else `plain`."""
        return "averages" if "averages" in self.manifest["tensors"] else plain

    def read(self, kind: str) -> dict[str, Tensor]:
        """All tensors of one kind by name, whole, on the CPU."""
        return {name: self.tensor(kind, name) for name in self.manifest["tensors"][kind]}

    def tensor(self, kind: str, name: str) -> Tensor:
        """One logical tensor, whole, on the CPU. Raises UserError where its files cannot be read."""
        entry = self.manifest["tensors"][kind][name]
        return join(entry["shape"], [(Piece.of(piece), self._read(piece)) for piece in entry["pieces"]])

    def check_shapes(self, expected: Mapping[str, Sequence[int]], kind: str) -> None:
        """Raises UserError unless the tensors of a kind are the expected ones, by name and shape."""
        stored = {name: entry["shape"] for name, entry in self.manifest["tensors"][kind].items()}
        for name in sorted(stored.keys() | expected.keys()):
            if name not in stored or name not in expected:
                where = "the checkpoint" if name in stored else "the model"
                text = f"only {where} has a tensor {name}: the model sections of the configs differ"
                raise UserError(f"{self.folder}: {text}")
            if stored[name] != list(expected[name]):
                raise UserError(
                    f"{self.folder}: {name} is {stored[name]} in the checkpoint and {list(expected[name])} "
                    "in the model: the vocabularies or the model sections of the configs differ"
                )

    def _read(self, piece: Mapping[str, Any]) -> Tensor:
        path, key = self.folder / piece["file"], piece["key"]
        try:
            with safe_open(path, framework="pt") as file:
                values: Tensor = file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: cannot read {key}: {error}; use another checkpoint") from error
        if values.numel() != piece["numel"]:
            raise UserError(
                f"{path}: {key} has {values.numel()} elements instead of {piece['numel']}: damaged; "
                "use another checkpoint"
            )
        return values


def find_checkpoint(path: Path) -> Path | None:
    """The folder of a checkpoint, not looked into.

    Args:
        path: the checkpoint itself, the file `latest` or `best` beside it, or the run folder, which means `latest`.

    Returns:
        The folder; None where `path` is no such thing. Where a run has checkpoints but no `latest`, as when it was
        killed before it had written its first one, it is the newest checkpoint.

    Raises:
        UserError: `latest` or `best` names nothing.
    """
    if (path / MANIFEST).is_file() or (path.is_dir() and STEP_FOLDER.fullmatch(path.name)):
        return path
    if path.is_file() and path.name in (LATEST, BEST):
        return _follow(path)
    latest = path / CHECKPOINTS / LATEST
    if latest.is_file():
        return _follow(latest)
    return next(reversed(list_checkpoints(latest.parent)), None)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in the folder `checkpoints` of a run, by their step."""
    found = [path for path in folder.glob("step_*") if STEP_FOLDER.fullmatch(path.name)]
    return sorted(found, key=step_of)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint. Raises UserError where it is missing, damaged or of another version."""
    path = folder / MANIFEST
    try:
        manifest = parse_json(path.read_text("utf-8"))
    except OSError as error:
        raise _DamageError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise _DamageError(f"{path}: no JSON: damaged") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise _DamageError(f"{path}: no checkpoint of this version of hzlm")
    if manifest.get("checksum") != checksum(manifest):
        raise _DamageError(f"{path}: its checksum does not fit: damaged")
    return manifest


def checksum(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of what a manifest says, but for its entry "checksum"."""
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def load_model(path: Path) -> tuple[EncoderDecoder, Vocabulary]:
    """The stored model in float32, in evaluation mode, with its vocabulary. Raises UserError as `Checkpoint.open`.

    Its weights are the averages where the checkpoint has them.
    """
    checkpoint = Checkpoint.open(path)
    vocabulary = checkpoint.vocabulary
    with torch.device("meta"):
        model = EncoderDecoder(checkpoint.config.model, vocabulary.size, vocabulary.target_start)
    kind = checkpoint.best_kind("weights")
    checkpoint.check_shapes({name: parameter.shape for name, parameter in model.named_parameters()}, kind)
    weights = {name: tensor.float() for name, tensor in checkpoint.read(kind).items()}
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False), vocabulary


def _follow(pointer: Path) -> Path:
    name = pointer.read_text("utf-8", "replace").strip()
    folder = pointer.parent / name
    if not STEP_FOLDER.fullmatch(name) or not folder.is_dir():
        raise UserError(f"{pointer}: names {name!r}, and there is no such checkpoint; {_name_another(pointer.parent)}")
    return folder


def _verify(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as they were written."""
    manifest = read_manifest(folder)
    path = folder / "vocabulary.json"
    try:
        foreign = Vocabulary.load(path).fingerprint != manifest["vocabulary"]
    except UserError:
        foreign = False  # but damaged, which its checksum tells
    if foreign:
        raise UserError(
            f"{path}: this vocabulary does not fit the checkpoint beside it; "
            "put back the vocabulary.json that was saved with it"
        )
    for name, stored in manifest["files"].items():
        damage = damage_of(folder / name, stored)
        if damage is not None:
            raise _DamageError(f"{folder / name}: {damage}")
    _check_pieces(folder / MANIFEST, manifest)
    return manifest


def _check_pieces(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raises _DamageError unless the pieces of every tensor make it up, and lie in files that have a checksum."""
    for kind, named in manifest["tensors"].items():
        for name, entry in named.items():
            fault = fault_of(entry["shape"], [Piece.of(piece) for piece in entry["pieces"]])
            if fault is not None:
                raise _DamageError(f"{path}: {kind} of {name}: {fault}: damaged")
            for piece in entry["pieces"]:
                if piece["file"] not in manifest["files"]:
                    raise _DamageError(f"{path}: {kind} of {name}: no checksum of {piece['file']}: damaged")


def _name_another(folder: Path, damaged: Path | None = None) -> str:
    """What to do instead: a whole checkpoint of `folder`, if there is one that is not the damaged one."""
    for other in reversed(list_checkpoints(folder)):
        if other != damaged:
            with suppress(UserError):
                _verify(other)
                return f"{other} is whole: use it, and to train on from it write {other.name} into {LATEST} beside it"
    return "no other checkpoint beside it is whole: put back a copy of it, or train anew"
