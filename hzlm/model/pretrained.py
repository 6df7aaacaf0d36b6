"""Reading a stored model: a checkpoint folder, or the run folder that holds it.

A checkpoint folder has manifest.json, config.yaml, vocabulary.json and safetensors files. The manifest names, for
each kind ("weights", "masters", "exp_avg", "exp_avg_sq") and each logical tensor, its global shape and the pieces it
is stored in, each with its file and its offset: whoever reads does not care who wrote.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hzlm.config import RunConfig, load_config
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary

FORMAT = "hzlm-checkpoint"
VERSION = 1
MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
LATEST = "latest"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk, its manifest read and its files verified."""

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """A checkpoint folder, or the latest checkpoint of a run folder.

        Raises:
            UserError: there is none, it is damaged, or its vocabulary is not the one it was trained with.
        """
        folder = find_checkpoint(path)
        if folder is None:
            raise UserError(f"{path}: no checkpoint here; pass a run folder of `hzlm train` or one of its checkpoints")
        manifest = _read_manifest(folder / MANIFEST)
        checkpoint = cls(folder, manifest)
        if checkpoint.vocabulary.fingerprint != manifest["vocabulary"]:
            raise UserError(
                f"{folder / 'vocabulary.json'}: this vocabulary does not fit the checkpoint beside it; "
                "put back the vocabulary.json that was saved with it"
            )
        for name, stored in manifest["files"].items():
            _verify(folder / name, stored["bytes"], stored["sha256"])
        return checkpoint

    @property
    def config(self) -> RunConfig:
        """The config of the run that wrote it."""
        return load_config(self.folder / "config.yaml")

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the run that wrote it."""
        return Vocabulary.load(self.folder / "vocabulary.json")

    def read(self, kind: str) -> dict[str, Tensor]:
        """All tensors of one kind by name, whole, on the CPU."""
        return {name: self._assemble(name, entry) for name, entry in self.manifest["tensors"][kind].items()}

    def _assemble(self, name: str, entry: Mapping[str, Any]) -> Tensor:
        pieces = entry["pieces"]
        whole: Tensor | None = None
        for piece in pieces:
            path = self.folder / piece["file"]
            try:
                with safe_open(path, framework="pt") as file:
                    tensor = file.get_tensor(name)
            except (OSError, SafetensorError) as error:
                raise UserError(f"{path}: cannot read {name}: {error}; use another checkpoint") from error
            if len(pieces) == 1:
                return tensor
            if whole is None:
                whole = torch.empty(entry["shape"], dtype=tensor.dtype)
            corner = tuple(slice(at, at + size) for at, size in zip(piece["offset"], tensor.shape, strict=True))
            whole[corner] = tensor
        if whole is None:
            raise UserError(f"{self.folder / MANIFEST}: {name} has no pieces; use another checkpoint")
        return whole


def find_checkpoint(path: Path) -> Path | None:
    """`path` itself if it is a checkpoint, else the latest checkpoint of the run folder `path`, else None."""
    if (path / MANIFEST).is_file():
        return path
    latest = path / CHECKPOINTS / LATEST
    return path / CHECKPOINTS / latest.read_text("utf-8").strip() if latest.is_file() else None


def load_model(path: Path) -> tuple[EncoderDecoder, Vocabulary]:
    """The stored model in float32, in evaluation mode, with its vocabulary. Raises UserError as `Checkpoint.open`."""
    checkpoint = Checkpoint.open(path)
    vocabulary = checkpoint.vocabulary
    with torch.device("meta"):
        model = EncoderDecoder(checkpoint.config.model, vocabulary.size, vocabulary.target_start)
    weights = {name: tensor.float() for name, tensor in checkpoint.read("weights").items()}
    check_names(weights, dict(model.named_parameters()), checkpoint.folder)
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False), vocabulary


def check_names(stored: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path) -> None:
    """Raises UserError unless the stored tensors are the expected ones, by name and shape."""
    for name in sorted(stored.keys() | expected.keys()):
        if name not in stored or name not in expected:
            where = "the checkpoint" if name in stored else "the model"
            raise UserError(f"{folder}: only {where} has a tensor {name}: the model sections of the configs differ")
        if stored[name].shape != expected[name].shape:
            raise UserError(
                f"{folder}: {name} is {list(stored[name].shape)} in the checkpoint and {list(expected[name].shape)} "
                "in the model: the vocabularies or the model sections of the configs differ"
            )


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot read this manifest: {error}; use another checkpoint") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise UserError(f"{path}: no checkpoint of this version of hzlm")
    return manifest


def _verify(path: Path, size: int, sha256: str) -> None:
    if not path.is_file():
        raise UserError(f"{path}: this file of the checkpoint is missing; use another checkpoint")
    if path.stat().st_size != size:
        raise UserError(f"{path}: {path.stat().st_size} bytes, {size} were written: truncated; use another checkpoint")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise UserError(f"{path}: its checksum does not fit: damaged; use another checkpoint")
