"""Writing the tensors of a checkpoint: what a rank holds of each, into files of its own.

No rank sends tensors to another. Each logical tensor is written once: masters, moments and averages by the ranks that
hold them (ZeRO stage 1, Rajbhandari et al. 2020, arXiv 1910.02054, divides them over the data-parallel ranks), the
weights, which all data-parallel ranks hold, by these in turn.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hzlm.config import RunConfig
from hzlm.model.checkpoint_files import MANIFEST
from hzlm.model.pretrained import FORMAT, VERSION, checksum
from hzlm.model.tensor_pieces import Piece, fault_of, locate
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import logical_shape, sharding_of
from hzlm.settings import save_settings
from hzlm.stored_files import describe_file, force_to_disk
from hzlm.train.optimizer import ParameterState, is_counted
from hzlm.vocabulary import Vocabulary

# a file of a checkpoint holds at most about this many bytes of tensors
SHARD_BYTES = 2 << 30
CONFIG, VOCABULARY = "config.yaml", "vocabulary.json"

Entries = dict[str, dict[str, dict[str, Any]]]
"""The "tensors" of a manifest: kind -> name -> {"shape", "pieces"}."""
Written = tuple[Entries, dict[str, Any]]
"""What a rank has written: its entries, and its "files" of a manifest."""


def states_of(parameters: Mapping[str, ParameterState]) -> list[str]:
    """What there is of each parameter in float32, divided over the data-parallel ranks: fields of `ParameterState`."""
    averaged = any(state.averages is not None for state in parameters.values())
    return ["masters", "exp_avg", "exp_avg_sq", *(["averages"] if averaged else [])]


def write_tensors(folder: Path, parameters: Mapping[str, ParameterState], mesh: Mesh) -> Written:
    """Writes this rank's part of every tensor, forced to the disk.

    Args:
        folder: which all ranks write into.
        parameters: of this rank's stage, by their names in `EncoderDecoder`.
        mesh: the place of this rank.

    Returns:
        All tensors of the stage, each with the pieces that this rank has written of it, and its files.

    Raises:
        OSError: a file cannot be written.
    """
    own = {name: state for name, state in parameters.items() if is_counted(name, state.weight, mesh)}
    entries: Entries = {}
    for kind, states in {"weights": _share(own, mesh), **dict.fromkeys(states_of(parameters), own)}.items():
        entries[kind] = {
            name: {"shape": list(logical_shape(state.weight)), "pieces": []} for name, state in parameters.items()
        }
        for name, piece in _write(folder, f"{kind}-{mesh.world.index:05d}", _parts(states, kind)):
            entries[kind][name]["pieces"].append(piece)
    return entries, _describe_files(folder, entries)


def write_model(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> Written:
    """Writes whole float32 tensors by name, each of them once, as weights and masters; as `write_tensors`."""
    named: dict[str, dict[str, Any]] = {}

    def parts() -> Iterator[_Part]:
        for name, values in tensors:
            (piece,) = locate(tuple(values.shape), None, 0, values.numel())
            named[name] = {"shape": list(values.shape), "pieces": []}
            yield _Part(name, name, piece, values)

    for name, piece in _write(folder, "weights", parts()):
        named[name]["pieces"].append(piece)
    entries = {"weights": named, "masters": named}
    return entries, _describe_files(folder, entries)


def finish_checkpoint(
    folder: Path, config: RunConfig, vocabulary: Vocabulary, described: Mapping[str, Any], written: Sequence[Written]
) -> None:
    """Makes what all ranks have written a checkpoint. described: what its manifest shall say of the run."""
    save_settings(config, folder / CONFIG)
    vocabulary.save(folder / VOCABULARY)
    files = {name: describe_file(folder / name) for name in (CONFIG, VOCABULARY)}
    for _, part in written:
        files |= part
    tensors = merge(entries for entries, _ in written)
    manifest = {"format": FORMAT, "version": VERSION, **described, "tensors": tensors, "files": files}
    manifest["checksum"] = checksum(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
    for name in (CONFIG, VOCABULARY, MANIFEST):
        force_to_disk(folder / name)
    force_to_disk(folder)


def merge(ranks: Iterable[Entries]) -> Entries:
    """What all ranks have written. Raises ValueError where that does not make up whole tensors."""
    merged: Entries = {}
    for entries in ranks:
        for kind, named in entries.items():
            tensors = merged.setdefault(kind, {})
            for name, entry in named.items():
                tensors.setdefault(name, {"shape": entry["shape"], "pieces": []})["pieces"] += entry["pieces"]
    for kind, named in merged.items():
        for name, entry in named.items():
            fault = fault_of(entry["shape"], [Piece.of(piece) for piece in entry["pieces"]])
            if fault is not None:
                raise ValueError(f"{kind} of {name}: {fault}")
    return merged


@dataclass(frozen=True)
class _Part:
    """A piece of a tensor and what it holds."""

    name: str
    """Of the tensor."""
    key: str
    """What the file calls the piece: as the tensor, with a number where this rank has several pieces of it."""
    piece: Piece
    values: Tensor


def _share(states: Mapping[str, ParameterState], mesh: Mesh) -> dict[str, ParameterState]:
    """Those whose weights this one of the data-parallel ranks writes; all have about as many bytes to write."""
    loads = [0] * mesh.data.size
    writers = {}
    for name, state in sorted(states.items(), key=lambda item: -item[1].weight.nbytes):
        writers[name] = loads.index(min(loads))
        loads[writers[name]] += state.weight.nbytes
    return {name: state for name, state in states.items() if writers[name] == mesh.data.index}


def _parts(states: Mapping[str, ParameterState], kind: str) -> Iterator[_Part]:
    """Everything of one kind that this rank writes."""
    for name, state in states.items():
        start, values = (0, state.weight.detach()) if kind == "weights" else (state.start, getattr(state, kind))
        pieces = locate(logical_shape(state.weight), sharding_of(state.weight), start, values.numel())
        parts = values.flatten().split([piece.numel for piece in pieces])
        for number, (piece, part) in enumerate(zip(pieces, parts, strict=True)):
            yield _Part(name, f"{name}#{number}" if number else name, piece, part.view(piece.shape))


def _describe_files(folder: Path, entries: Entries) -> dict[str, Any]:
    names = {piece["file"] for named in entries.values() for entry in named.values() for piece in entry["pieces"]}
    return {name: describe_file(folder / name) for name in sorted(names)}


def _write(folder: Path, stem: str, parts: Iterable[_Part]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Writes parts into as many files as they need; gives the name and the entry of each piece."""
    for number, group in enumerate(_group(parts)):
        file = f"{stem}-{number:05d}.safetensors"
        _save_file({part.key: part.values.cpu() for part in group}, folder / file)
        for part in group:
            yield part.name, {"file": file, "key": part.key, **asdict(part.piece)}


def _group(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """What goes into each file."""
    group: list[_Part] = []
    filled = 0
    for part in parts:
        if group and filled + part.values.nbytes > SHARD_BYTES:
            yield group
            group, filled = [], 0
        group.append(part)
        filled += part.values.nbytes
    if group:
        yield group


def _save_file(tensors: dict[str, Tensor], path: Path) -> None:
    """Raises OSError, as every other way of writing does; safetensors has an error of its own."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
    force_to_disk(path)
