"""Averaged checkpoints against numpy, who may read them, and what is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from fake_engine import FakeEngine
from safetensors.numpy import load_file

from hzlm.cli import main
from hzlm.config import ModelConfig, RunConfig
from hzlm.data.blend import Blend
from hzlm.model.pretrained import Checkpoint, checksum, load_model
from hzlm.parallel.mesh import ALONE
from hzlm.parallel.random import make_generator
from hzlm.stored_files import describe_file
from hzlm.train import checkpoint_write
from hzlm.train.checkpoint import RunState, save_checkpoint, start_from
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]


@pytest.fixture
def config(tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": model_config.model_dump(),
            "data": {"path": write_dataset(tmp_path / "data", sentences), "views": {"pinyin": 1.0}},
            "schedule": {"scale": 1.0, "warmup_steps": 10},
            "train": {"output": tmp_path / "run", "steps": 5, "micro_batch_rows": 2, "keep_last": 3},
        },
        strict=False,
    )


def save(config: RunConfig, step: int, loss: float = 1.0, averaged: bool = False) -> Path:
    """A checkpoint with numbers of its own."""
    blend = Blend.open(config.data, "train")
    engine = FakeEngine(config.model, blend.vocabulary, averaged=averaged)
    for name, state in engine.parameters.items():
        state.masters.normal_(generator=make_generator(step, name))
        if state.averages is not None:
            state.averages.normal_(generator=make_generator(-step, name))
    return save_checkpoint(config, engine.engine, blend, RunState(step, cursor=64), {"loss": loss}, ALONE)


def mean(folders: Sequence[Path], kind: str = "masters") -> dict[str, np.ndarray]:
    stored = [load_file(folder / f"{kind}-00000-00000.safetensors") for folder in folders]
    return {
        name: np.mean([tensors[name].astype(np.float64) for tensors in stored], axis=0).astype(np.float32)
        for name in stored[0]
    }


def test_the_last_checkpoints_of_a_run(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its oldest one, which is kept as the best, is none of them."""
    folders = [save(config, step, loss) for step, loss in enumerate([0.5, 1.0, 1.0, 1.0], start=1)]
    assert all(folder.is_dir() for folder in folders)
    monkeypatch.setattr(checkpoint_write, "SHARD_BYTES", 10_000)
    output = tmp_path / "deep" / "mean"
    assert main(["average", str(config.train.output), "--last", "3", "--output", str(output)]) == 0
    assert capsys.readouterr().out.startswith(f"{output}: the mean of {folders[1]}, ")
    assert len(list(output.glob("weights-*"))) > 3
    stored = Checkpoint.open(output)
    assert (stored.manifest["step"], stored.config) == (4, config)
    wanted = mean(folders[1:])
    model, vocabulary = load_model(output)
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(parameter.numpy(), wanted[name])
    engine = FakeEngine(config.model, vocabulary)
    start_from(output, engine.engine, vocabulary)
    for name, state in engine.parameters.items():
        np.testing.assert_array_equal(state.masters.numpy(), wanted[name].ravel())
    assert not list(output.parent.glob(".*"))


def test_averaged_weights_are_what_is_averaged(config: RunConfig, tmp_path: Path) -> None:
    """In any order, and beside a checkpoint that has none."""
    folders = [save(config, step, averaged=step > 1) for step in (1, 2, 3)]
    output = tmp_path / "mean"
    assert main(["average", *map(str, reversed(folders)), "--output", str(output)]) == 0
    wanted = mean([folders[1], folders[2]], "averages")
    plain = mean(folders[:1])
    for name, parameter in load_model(output)[0].named_parameters():
        expected = (2 * wanted[name].astype(np.float64) + plain[name]) / 3
        np.testing.assert_allclose(parameter.numpy(), expected, rtol=0, atol=1e-6)
    assert Checkpoint.open(output).manifest["step"] == 3
    assert json.loads((output / "manifest.json").read_text())["average_of"] == [str(f) for f in reversed(folders)]


def test_what_cannot_be_averaged_is_refused(
    config: RunConfig, tmp_path: Path, vocabulary: Vocabulary, capsys: pytest.CaptureFixture[str]
) -> None:
    first = save(config, 1)
    run, output = config.train.output, tmp_path / "mean"

    def complaint(*arguments: object) -> str:
        assert main(["average", *map(str, arguments), "--output", str(output)]) == 2
        assert [path for path in tmp_path.glob("*mean*") if path != output] == []
        return capsys.readouterr().err.removeprefix("hzlm: error: ").rstrip("\n")

    few = f"{run}: of its last 2 checkpoints 1 are there (train.keep_last = 3); average those, or train with a higher "
    assert complaint(run, "--last", 2) == few + "train.keep_last"
    assert (
        complaint(first, "--last", 1)
        == f"{first}: no run of hzlm train with a checkpoint is here; pass its train.output"
    )
    assert complaint(run) == f"{run}: is one path; pass --last N with a run folder, or several checkpoints"
    assert complaint(run, run, "--last", 1) == "--last 1 goes with one run folder, not 2 paths; leave it out"

    def other(name: str, **sections: dict[str, object]) -> Path:
        """A checkpoint of another run, as its sections say."""
        changed = {"train": {"output": tmp_path / name}, **sections}
        parts = {key: getattr(config, key).model_copy(update=values) for key, values in changed.items()}
        return save(config.model_copy(update=parts), 2)

    deep = other("deep", model={"encoder_layers": 3})
    assert complaint(first, deep) == (
        f"{first}: its model.encoder_layers is {config.model.encoder_layers}, and 3 in {deep}; "
        "average checkpoints of one model"
    )
    aligned = other("aligned", model={"aligned": True})
    assert complaint(first, aligned).startswith(f"{first}: its model.aligned is False, and True in {aligned}; ")
    strange = other("strange")
    changed = Vocabulary((*vocabulary.characters, "新"), vocabulary.readings)
    changed.save(strange / "vocabulary.json")
    manifest = json.loads((strange / "manifest.json").read_text()) | {"vocabulary": changed.fingerprint}
    manifest["files"]["vocabulary.json"] = describe_file(strange / "vocabulary.json")
    (strange / "manifest.json").write_text(json.dumps(manifest | {"checksum": checksum(manifest)}))
    assert complaint(first, strange) == (
        f"{first}: has another vocabulary than {strange}; average checkpoints of one vocabulary"
    )
    output.mkdir()
    assert complaint(first, first) == f"{output}: exists; choose another --output, or delete it"
    assert not any(output.iterdir())


def test_a_name_that_a_run_would_take_for_its_own_checkpoint_is_refused(
    config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    first = save(config, 1)
    output = first.with_name("step_00000009")
    assert main(["average", str(config.train.output), "--last", "1", "--output", str(output)]) == 2
    assert "a run would take it for a checkpoint of its own" in capsys.readouterr().err
    assert not output.exists()
