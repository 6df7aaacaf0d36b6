"""Checkpoints: what is stored, who may read it, and what is refused."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.dataset import Dataset
from hzlm.data.sampling import Cursor
from hzlm.errors import UserError
from hzlm.model.pretrained import MANIFEST, Checkpoint, find_checkpoint, load_model
from hzlm.train import checkpoint as checkpoints
from hzlm.train.checkpoint import Progress, resume, save_checkpoint, start_from
from hzlm.train.engine import Engine
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]


@pytest.fixture
def config(tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": model_config.model_dump(),
            "data": {"path": write_dataset(tmp_path / "data", sentences), "views": {"pinyin": 1.0}},
            "schedule": {"scale": 1.0, "warmup_steps": 10},
            "train": {"output": tmp_path / "run", "steps": 5, "micro_batch_rows": 2, "precision": "bf16"},
        },
        strict=False,
    )


def fill(engine: Engine) -> None:
    """Other numbers in every tensor."""
    generator = torch.Generator().manual_seed(9)
    for state in engine.parameters.values():
        for tensor in (state.masters, state.exp_avg, state.exp_avg_sq):
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    engine.restore(optimizer_steps=17)


def save(config: RunConfig, step: int = 3, keep_last: int = 2) -> Path:
    dataset = Dataset.open(config.data.path, "train")
    engine = Engine(config, dataset.vocabulary)
    fill(engine)
    return save_checkpoint(config.train.output, engine, config, dataset, Progress(step, Cursor(1, 0, 4)), keep_last)


def test_what_is_saved_comes_back(config: RunConfig, vocabulary: Vocabulary) -> None:
    folder = save(config)
    assert find_checkpoint(config.train.output) == find_checkpoint(folder) == folder
    engine, filled = Engine(config, vocabulary), Engine(config, vocabulary)
    fill(filled)
    dataset = Dataset.open(config.data.path, "train")
    assert resume(Checkpoint.open(folder), engine, dataset) == Progress(3, Cursor(1, 0, 4))
    assert engine.optimizer_steps == 17
    for name, state in engine.parameters.items():
        for kind in ("weight", "masters", "exp_avg", "exp_avg_sq"):
            assert torch.equal(getattr(state, kind), getattr(filled.parameters[name], kind)), f"{kind} of {name}"


def test_files_are_plain_safetensors_under_logical_names(config: RunConfig, vocabulary: Vocabulary) -> None:
    folder = save(config)
    model, loaded = load_model(config.train.output)
    assert loaded.fingerprint == vocabulary.fingerprint
    weights = load_file(folder / "weights-00000.safetensors")
    assert weights.keys() == dict(model.named_parameters()).keys()
    assert all(weights[name].dtype == torch.bfloat16 for name in weights)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name].float())
    assert not any(path.suffix in {".pt", ".pkl", ".bin"} for path in folder.iterdir())


def test_several_files_are_read_as_one(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "SHARD_BYTES", 4096)
    folder = save(config)
    assert len(list(folder.glob("masters-*.safetensors"))) > 3
    load_model(folder)


def test_pieces_of_a_tensor_are_joined_by_their_offsets(config: RunConfig) -> None:
    """As several ranks will write: each its part of a tensor, in a file of its own."""
    from safetensors.torch import save_file

    folder = save(config)
    whole = Checkpoint.open(folder).read("weights")["tokens.weight"]
    save_file({"tokens.weight": whole[:1000].contiguous()}, folder / "a.safetensors")
    save_file({"tokens.weight": whole[1000:].contiguous()}, folder / "b.safetensors")
    manifest = json.loads((folder / MANIFEST).read_text())
    pieces = [{"file": "b.safetensors", "offset": [1000, 0]}, {"file": "a.safetensors", "offset": [0, 0]}]
    manifest["tensors"]["weights"]["tokens.weight"]["pieces"] = pieces
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert torch.equal(Checkpoint.open(folder).read("weights")["tokens.weight"], whole)


def test_only_the_newest_are_kept_and_latest_names_the_last(config: RunConfig) -> None:
    for step in (1, 2, 10):
        save(config, step, keep_last=2)
    folder = config.train.output / "checkpoints"
    assert sorted(path.name for path in folder.glob("step_*")) == ["step_00000002", "step_00000010"]
    assert (folder / "latest").read_text() == "step_00000010\n"
    assert not list(folder.glob(".*"))


def test_what_a_killed_start_left_is_removed(config: RunConfig) -> None:
    """It wrote step 20 and died before `latest` named it; the run went on from step 10."""
    save(config, 10, keep_last=1)
    folder = config.train.output / "checkpoints"
    shutil.copytree(folder / "step_00000010", folder / "step_00000020")
    (folder / ".step_00000030.partial").mkdir()
    current = save(config, 15, keep_last=1)
    assert sorted(path.name for path in folder.iterdir()) == ["latest", "step_00000015"]
    assert find_checkpoint(config.train.output) == current


def test_a_crash_while_saving_leaves_the_last_whole_checkpoint(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = save(config, step=1)
    written = []

    def fail(*arguments: object) -> None:
        written.append(arguments)
        if len(written) == 2:
            raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(config, step=2)
    assert find_checkpoint(config.train.output) == whole
    load_model(config.train.output)
    monkeypatch.undo()
    assert save(config, step=2) == find_checkpoint(config.train.output)


def test_damage_is_named(config: RunConfig) -> None:
    folder = save(config)
    weights = folder / "weights-00000.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    with pytest.raises(UserError, match=r"weights-00000.safetensors: \d+ bytes, \d+ were written: truncated"):
        load_model(folder)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="checksum does not fit: damaged"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(UserError, match="this file of the checkpoint is missing"):
        load_model(folder)


def test_a_foreign_vocabulary_is_refused(config: RunConfig, vocabulary: Vocabulary, tmp_path: Path) -> None:
    folder = save(config)
    other = Vocabulary((*vocabulary.characters, "新"), vocabulary.readings)
    with pytest.raises(UserError, match=r"trained with another vocabulary than the dataset's; prepare .* --vocabulary"):
        start_from(folder, Engine(config, other), other)
    other.save(folder / "vocabulary.json")
    with pytest.raises(UserError, match="this vocabulary does not fit the checkpoint beside it"):
        load_model(folder)


def test_another_shape_of_model_is_refused(config: RunConfig, vocabulary: Vocabulary) -> None:
    folder = save(config)
    deeper = config.model_copy(update={"model": config.model.model_copy(update={"encoder_layers": 3})})
    with pytest.raises(UserError, match=r"only the model has a tensor encoder\.2"):
        start_from(folder, Engine(deeper, vocabulary), vocabulary)
    shorter = config.model_copy(update={"model": config.model.model_copy(update={"max_length": 16})})
    with pytest.raises(
        UserError, match=r"positions.source is \[24, 32\] in the checkpoint and \[16, 32\] in the model"
    ):
        start_from(folder, Engine(shorter, vocabulary), vocabulary)


def test_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint here; pass a run folder"):
        load_model(tmp_path)
