"""Checkpoints of runs with several ranks: any layout writes them, any layout reads them."""

import errno
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_engine import KINDS, FakeEngine, logical_shapes, logical_tensor, play_ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from saving import save_and_read

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.blend import Blend
from hzlm.errors import UserError
from hzlm.launch.processes import run_ranks
from hzlm.model.checkpoint_files import MANIFEST
from hzlm.model.pretrained import Checkpoint, checksum, find_checkpoint, load_model
from hzlm.parallel.mesh import Mesh
from hzlm.train import checkpoint, checkpoint_write
from hzlm.train.checkpoint import RunState, open_together, resume, save_checkpoint, start_from
from hzlm.train.noise import NoiseScale
from hzlm.train.patience import Patience

Write = Callable[[Path, Sequence[str]], Path]
Layout = tuple[int, int, int]
PROGRESS = RunState(3, cursor=64, noise=NoiseScale(1.0, 0.1), patience=Patience(2.5, since=2))

LAYOUTS = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3))


@pytest.fixture(scope="module")
def config(
    tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str], model_config: ModelConfig
) -> RunConfig:
    folder = tmp_path_factory.mktemp("layouts")
    model = model_config.model_dump() | {"encoder_layers": 1, "decoder_layers": 1, "hidden_size": 8, "heads": 2}
    return RunConfig.model_validate(
        {
            "model": model | {"feed_forward_size": 10},
            "data": {"path": write_dataset(folder / "data", sentences), "views": {"pinyin": 1.0}},
            "schedule": {"scale": 1.0, "warmup_steps": 10},
            "train": {"output": folder / "run", "steps": 5, "micro_batch_rows": 2},
        },
        strict=False,
    )


@pytest.fixture(scope="module")
def blend(config: RunConfig) -> Blend:
    return Blend.open(config.data, "train")


def save(
    config: RunConfig, blend: Blend, layout: Layout, seed: int = 0, step: int = 3, averaged: bool = False
) -> list[Path | Exception]:
    """What saving gives on each rank."""

    def save_part(mesh: Mesh) -> Path:
        engine = FakeEngine(config.model, blend.vocabulary, mesh, seed, averaged).fill().engine
        return save_checkpoint(config, engine, blend, replace(PROGRESS, step=step), None, mesh)

    return play_ranks(*layout, save_part)


@settings(max_examples=15)
@given(writing=LAYOUTS, reading=LAYOUTS, seed=st.integers(0, 99), averaged=st.booleans())
def test_any_layout_reads_what_any_layout_has_written(
    config: RunConfig, blend: Blend, writing: Layout, reading: Layout, seed: int, averaged: bool
) -> None:
    """Weights that are averaged are what another run starts from, and what its average starts from."""
    shutil.rmtree(config.train.output, ignore_errors=True)
    folder = config.train.output / "checkpoints" / "step_00000003"
    assert save(config, blend, writing, seed, averaged=averaged) == [folder] * (writing[0] * writing[1] * writing[2])
    stored = Checkpoint.open(config.train.output)
    kinds = (*KINDS, "averages") if averaged else KINDS
    assert stored.manifest["tensors"].keys() == set(kinds)
    for kind in kinds:
        tensors = stored.read(kind)
        assert tensors.keys() == logical_shapes(config.model, blend.vocabulary).keys()
        for name, shape in logical_shapes(config.model, blend.vocabulary).items():
            assert torch.equal(tensors[name], logical_tensor(kind, name, shape)), f"{kind} of {name}"
    pipe, data, tensor = writing
    assert stored.manifest["layout"] == {"pipe": pipe, "data": data, "tensor": tensor}

    def read(mesh: Mesh) -> tuple[RunState, list[tuple[str, str]], int, object]:
        engine = FakeEngine(config.model, blend.vocabulary, mesh, seed + 1, averaged)
        fresh = FakeEngine(config.model, blend.vocabulary, mesh, seed + 1, averaged=True)
        found = open_together(config.train.output, mesh)
        assert found is not None
        progress = resume(found, engine.engine, blend)
        start_from(config.train.output, fresh.engine, blend.vocabulary)
        assert fresh.differences(("masters", "averages"), "averages" if averaged else "masters") == []
        return progress, engine.differences(kinds[1:]), engine.optimizer_steps, engine.loss_scale

    expected = (PROGRESS, [], 17, {"scale": 1024.0, "good_steps": 3})
    assert play_ranks(*reading, read) == [expected] * (reading[0] * reading[1] * reading[2])


def test_each_element_is_written_once_and_evenly(config: RunConfig, blend: Blend) -> None:
    shutil.rmtree(config.train.output, ignore_errors=True)
    (folder, *_) = save(config, blend, (2, 2, 2))
    assert isinstance(folder, Path)
    total = sum(torch.Size(shape).numel() for shape in logical_shapes(config.model, blend.vocabulary).values())
    for kind in KINDS:
        sizes = [sum(part.numel() for part in load_file(path).values()) for path in folder.glob(f"{kind}-*")]
        assert sum(sizes) == total
    first, second = (load_file(folder / f"weights-0000{rank}-00000.safetensors") for rank in (0, 2))
    loads = [sum(part.numel() for part in held.values()) for held in (first, second)]
    largest = max(part.numel() for held in (first, second) for part in held.values())
    assert abs(loads[0] - loads[1]) <= largest
    assert first.keys().isdisjoint(second.keys())


def test_no_checkpoint_is_none_on_all_ranks(config: RunConfig, tmp_path: Path) -> None:
    assert play_ranks(1, 2, 1, lambda mesh: open_together(tmp_path, mesh)) == [None, None]


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_a_rank_that_cannot_write_stops_all(
    config: RunConfig, blend: Blend, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of it, and what was there before is still the latest."""
    shutil.rmtree(config.train.output, ignore_errors=True)
    (whole, *_) = save(config, blend, (1, 2, 2), step=1)
    save_file = checkpoint_write.save_file

    def fail(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if path.name.startswith(f"exp_avg-0000{failing}"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save_file(tensors, path)

    monkeypatch.setattr(checkpoint_write, "save_file", fail)
    outcomes = save(config, blend, (1, 2, 2), step=2)
    for rank, outcome in enumerate(outcomes):
        assert isinstance(outcome, OSError)
        assert outcome.errno == errno.ENOSPC
        assert outcome.strerror == "No space left on device" + ("" if rank == failing else f" on rank {failing}")
    assert find_checkpoint(config.train.output) == whole
    assert sorted(path.name for path in (config.train.output / "checkpoints").iterdir()) == ["latest", "step_00000001"]
    monkeypatch.undo()
    assert save(config, blend, (1, 2, 2), step=2) == [whole.with_name("step_00000002")] * 4


@pytest.mark.parametrize("name", ["finish_checkpoint", "_point", "tidy_up"])
def test_what_the_first_rank_cannot_finish_is_told_to_all(
    config: RunConfig, blend: Blend, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(config.train.output, ignore_errors=True)

    def fail(*arguments: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(checkpoint, name, fail)
    assert [str(outcome) for outcome in save(config, blend, (1, 2, 1))] == [
        "[Errno 122] Disk quota exceeded",
        "[Errno 122] Disk quota exceeded on rank 0",
    ]
    assert not list((config.train.output / "checkpoints").glob(".*"))


def lose_an_element(engine: FakeEngine) -> None:
    """Of one tensor on one rank."""
    if engine.mesh.data.index == 1:
        name, state = next((name, state) for name, state in engine.parameters.items() if state.masters.numel())
        engine.parameters[name] = replace(state, masters=state.masters[:-1])


def lose_a_tensor(engine: FakeEngine) -> None:
    """As all ranks of the stage but one see it."""
    if engine.mesh.data.index == 0:
        engine.parameters.clear()


@pytest.mark.parametrize("lose", [lose_an_element, lose_a_tensor])
def test_a_state_with_a_hole_is_not_saved(config: RunConfig, blend: Blend, lose: Callable[[FakeEngine], None]) -> None:
    """It could not be gone on from; so the last good one stays."""
    shutil.rmtree(config.train.output, ignore_errors=True)

    def save_part(mesh: Mesh) -> Path:
        engine = FakeEngine(config.model, blend.vocabulary, mesh).fill()
        lose(engine)
        return save_checkpoint(config, engine.engine, blend, PROGRESS, None, mesh)

    first, second = play_ranks(1, 2, 1, save_part)
    assert isinstance(first, ValueError)
    assert "its pieces leave a hole" in str(first)
    assert isinstance(second, RuntimeError)
    assert find_checkpoint(config.train.output) is None


def break_manifest(folder: Path, change: Callable[[list[dict[str, object]]], object]) -> None:
    """Changes the pieces of the token table's masters, with checksums that fit."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest["tensors"]["masters"]["tokens.weight"]["pieces"])
    manifest["checksum"] = checksum(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda pieces: pieces.pop(), "its pieces leave a hole"),
        (lambda pieces: pieces.append(pieces[0]), "its pieces overlap"),
        (lambda pieces: pieces[0].update(offset=[100_000, 0]), "a piece lies outside of it"),
        (lambda pieces: pieces[0].update(file="other.safetensors"), "no checksum of other.safetensors"),
    ],
)
def test_pieces_that_do_not_fit_are_refused_by_all_ranks(
    config: RunConfig, blend: Blend, change: Callable[[list[dict[str, object]]], object], fault: str
) -> None:
    shutil.rmtree(config.train.output, ignore_errors=True)
    (folder, *_) = save(config, blend, (1, 2, 2))
    assert isinstance(folder, Path)
    break_manifest(folder, change)
    text = f"{folder / MANIFEST}: masters of tokens.weight: {fault}: damaged; no other checkpoint"
    first, second = play_ranks(2, 1, 1, lambda mesh: open_together(config.train.output, mesh))
    assert isinstance(first, UserError)
    assert isinstance(second, UserError)
    assert str(first).startswith(text)
    assert str(second).startswith(f"rank 0: {text}")


def test_a_missing_file_of_a_rank_is_refused_by_all_ranks(config: RunConfig, blend: Blend) -> None:
    shutil.rmtree(config.train.output, ignore_errors=True)
    (folder, *_) = save(config, blend, (1, 2, 2))
    assert isinstance(folder, Path)
    lost = folder / "masters-00003-00000.safetensors"
    lost.unlink()
    for outcome in play_ranks(1, 2, 1, lambda mesh: open_together(config.train.output, mesh)):
        assert isinstance(outcome, UserError)
        assert f"{lost}: cannot be read (No such file or directory); no other checkpoint" in str(outcome)
    with pytest.raises(UserError, match="cannot be read"):
        load_model(config.train.output)


def test_a_file_that_is_lost_while_ranks_read_stops_all(config: RunConfig, blend: Blend) -> None:
    """After the first rank has verified it."""
    shutil.rmtree(config.train.output, ignore_errors=True)
    (folder, *_) = save(config, blend, (1, 1, 1))
    assert isinstance(folder, Path)
    stored = Checkpoint.open(folder)
    (folder / "exp_avg-00000-00000.safetensors").unlink()

    def read(mesh: Mesh) -> None:
        resume(stored, FakeEngine(config.model, blend.vocabulary, mesh).engine, blend)

    outcomes = play_ranks(2, 2, 1, read)
    assert all(isinstance(outcome, UserError) and "cannot read" in str(outcome) for outcome in outcomes)


def test_real_processes_save_and_read_as_threads_do(config: RunConfig, blend: Blend) -> None:
    shutil.rmtree(config.train.output, ignore_errors=True)
    outcomes = run_ranks(save_and_read, 4, config, (1, 2, 2), (2, 2, 1), 2)
    full = "[Errno 28] No space left on device"
    assert outcomes == [([], full + ("" if rank == 2 else " on rank 2")) for rank in range(4)]
    assert sorted(path.name for path in (config.train.output / "checkpoints").iterdir()) == ["latest", "step_00000003"]
