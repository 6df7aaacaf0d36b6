"""Checkpoints: what is stored, who may read it, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from fake_engine import FakeEngine, logical_shapes, logical_tensor
from safetensors.torch import load_file

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.blend import Blend
from hzlm.errors import UserError
from hzlm.model.checkpoint_files import MANIFEST
from hzlm.model.pretrained import Checkpoint, checksum, find_checkpoint, list_checkpoints, load_model
from hzlm.parallel.mesh import ALONE
from hzlm.train import checkpoint_write
from hzlm.train.checkpoint import RunState, resume, save_checkpoint, start_from
from hzlm.train.engine import Engine
from hzlm.train.ranks import connect
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


def save(config: RunConfig, step: int = 3, keep_last: int = 2, loss: float | None = None) -> Path:
    blend = Blend.open(config.data, "train")
    engine = FakeEngine(config.model, blend.vocabulary).fill().engine
    config = config.model_copy(update={"train": config.train.model_copy(update={"keep_last": keep_last})})
    scores = None if loss is None else {"loss": loss, "accuracy": 0.5}
    return save_checkpoint(config, engine, blend, RunState(step, cursor=64), scores, ALONE)


def test_what_the_engine_holds_comes_back(config: RunConfig, vocabulary: Vocabulary) -> None:
    blend = Blend.open(config.data, "train")
    engine, fresh = (
        Engine(config, vocabulary, connect(config.parallel)),
        Engine(config, vocabulary, connect(config.parallel)),
    )
    generator = torch.Generator().manual_seed(9)
    for state in engine.parameters.values():
        for tensor in (state.masters, state.exp_avg, state.exp_avg_sq):
            tensor.copy_(torch.rand(tensor.shape, generator=generator))
    engine.restore(17, engine.loss_scale_state())
    folder = save_checkpoint(config, engine, blend, RunState(3, cursor=64), None, ALONE)
    assert find_checkpoint(config.train.output) == find_checkpoint(folder) == folder
    assert resume(Checkpoint.open(folder), fresh, blend) == RunState(3, cursor=64)
    assert fresh.optimizer_steps == 17
    for name, state in fresh.parameters.items():
        for kind in ("weight", "masters", "exp_avg", "exp_avg_sq"):
            assert torch.equal(getattr(state, kind), getattr(engine.parameters[name], kind)), f"{kind} of {name}"


def test_files_are_plain_safetensors_under_logical_names(config: RunConfig, vocabulary: Vocabulary) -> None:
    folder = save(config)
    model, loaded = load_model(config.train.output)
    assert loaded.fingerprint == vocabulary.fingerprint
    weights = load_file(folder / "weights-00000-00000.safetensors")
    assert weights.keys() == dict(model.named_parameters()).keys()
    assert all(weights[name].dtype == torch.bfloat16 for name in weights)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name].float())
    masters = load_file(folder / "masters-00000-00000.safetensors")
    for name, shape in logical_shapes(config.model, vocabulary).items():
        assert torch.equal(masters[name], logical_tensor("masters", name, shape))
    assert not any(path.suffix in {".pt", ".pkl", ".bin"} for path in folder.iterdir())


def test_several_files_are_read_as_one(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_write, "SHARD_BYTES", 4096)
    folder = save(config)
    assert len(list(folder.glob("masters-*.safetensors"))) > 3
    load_model(folder)


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


@pytest.mark.parametrize(
    ("losses", "best", "kept"),
    [
        ([3.0, 1.0, 2.0, 2.5], 2, [2, 3, 4]),
        ([3.0, 2.0, 2.0, 1.5], 4, [3, 4]),
        ([1.0, 2.0, 1.0, None], 1, [1, 3, 4]),
        ([float("nan"), 2.0, float("nan"), float("inf")], 2, [2, 3, 4]),
    ],
)
def test_the_best_one_is_kept_beside_the_newest(
    config: RunConfig, losses: list[float | None], best: int, kept: list[int]
) -> None:
    for step, loss in enumerate(losses, start=1):
        save(config, step, keep_last=2, loss=loss)
    folder = config.train.output / "checkpoints"
    assert [path.name for path in list_checkpoints(folder)] == [f"step_{step:08d}" for step in kept]
    assert (folder / "best").read_text() == f"step_{best:08d}\n"
    assert Checkpoint.open(folder / "best").folder == folder / f"step_{best:08d}"
    assert Checkpoint.open(folder / "latest").manifest["step"] == 4


def test_without_scores_there_is_no_best(config: RunConfig) -> None:
    save(config)
    assert sorted(path.name for path in (config.train.output / "checkpoints").iterdir()) == ["latest", "step_00000003"]
    with pytest.raises(UserError, match="best: no checkpoint here"):
        load_model(config.train.output / "checkpoints" / "best")


def test_other_folders_beside_checkpoints_are_left_alone(config: RunConfig) -> None:
    folder = save(config, 1, keep_last=1)
    shutil.copytree(folder, folder.with_name("step_00000001.backup"))
    save(config, 2, keep_last=1)
    names = sorted(path.name for path in folder.parent.iterdir())
    assert names == ["latest", "step_00000001.backup", "step_00000002"]


def test_a_crash_while_saving_leaves_the_last_whole_checkpoint(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = save(config, step=1)
    written = []

    def fail(tensors: dict[str, torch.Tensor], path: Path) -> None:
        written.append(path)
        path.touch()
        if len(written) == 2:
            raise OSError("disk full")

    monkeypatch.setattr(checkpoint_write, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(config, step=2)
    assert find_checkpoint(config.train.output) == whole
    load_model(config.train.output)
    monkeypatch.undo()
    assert save(config, step=2) == find_checkpoint(config.train.output)


def test_damage_is_named_and_what_to_do(config: RunConfig) -> None:
    whole, folder = save(config, 1), save(config, 2)
    remedy = f"; {whole} is whole: use it, and to train on from it write step_00000001 into latest beside it"
    weights = folder / "weights-00000-00000.safetensors"

    def check(text: str) -> None:
        with pytest.raises(UserError) as caught:
            load_model(config.train.output)
        assert re.fullmatch(re.escape(str(folder)) + f"/{text}" + re.escape(remedy), str(caught.value))

    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    check(r"weights-00000-00000.safetensors: holds \d+ bytes instead of \d+: damaged")
    weights.unlink()
    check(r"weights-00000-00000.safetensors: cannot be read \(No such file or directory\)")
    weights.write_bytes(content)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        check(re.escape(path.name) + ": (its checksum does not fit|no JSON): damaged")
        path.write_bytes(content)
    (folder / MANIFEST).unlink()
    check(r"manifest.json: cannot be read \(No such file or directory\)")


@pytest.mark.parametrize("content", [b"", b"step_00000009\n", b"../../data\n", b"\xff\x00"])
def test_a_latest_that_names_nothing_is_told(config: RunConfig, content: bytes) -> None:
    whole = save(config)
    latest = whole.with_name("latest")
    latest.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_model(config.train.output)
    text = str(caught.value)
    assert text.startswith(f"{latest}: names ")
    remedy = f"{whole} is whole: use it, and to train on from it write {whole.name} into latest beside it"
    assert text.endswith(f"and there is no such checkpoint; {remedy}")
    latest.write_text(whole.name)  # as it says
    load_model(config.train.output)
    latest.write_bytes(content)
    shutil.rmtree(whole)
    with pytest.raises(UserError, match="no other checkpoint beside it is whole: put back a copy of it, or train anew"):
        load_model(config.train.output)


def test_a_lost_latest_means_the_newest(config: RunConfig) -> None:
    save(config, 99_999_999)
    newest = save(config, 100_000_000)
    newest.with_name("latest").unlink()
    assert find_checkpoint(config.train.output) == newest


def test_a_foreign_vocabulary_is_refused(config: RunConfig, vocabulary: Vocabulary, tmp_path: Path) -> None:
    folder = save(config)
    other = Vocabulary((*vocabulary.characters, "新"), vocabulary.readings)
    with pytest.raises(
        UserError, match=r"trained with another vocabulary than the dataset's; prepare .* vocabulary\.path="
    ):
        start_from(folder, FakeEngine(config.model, other).engine, other)
    other.save(folder / "vocabulary.json")
    with pytest.raises(UserError, match="this vocabulary does not fit the checkpoint beside it"):
        load_model(folder)


def test_another_shape_of_model_is_refused(config: RunConfig, vocabulary: Vocabulary) -> None:
    folder = save(config)
    deeper = config.model_copy(update={"model": config.model.model_copy(update={"encoder_layers": 3})})
    with pytest.raises(UserError, match=r"only the model has a tensor encoder\.2"):
        start_from(folder, FakeEngine(deeper.model, vocabulary).engine, vocabulary)
    shorter = config.model_copy(update={"model": config.model.model_copy(update={"max_length": 16})})
    with pytest.raises(
        UserError, match=r"positions.source is \[24, 32\] in the checkpoint and \[16, 32\] in the model"
    ):
        start_from(folder, FakeEngine(shorter.model, vocabulary).engine, vocabulary)


def test_a_checkpoint_of_an_older_version_is_refused(config: RunConfig) -> None:
    """Version 3 knew no stretches of boxes, but files of one process."""
    folder = save(config)
    manifest = json.loads((folder / MANIFEST).read_text()) | {"version": 3}
    manifest["checksum"] = checksum(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json: no checkpoint of this version of hzlm; .* or train anew"):
        Checkpoint.open(config.train.output)


def test_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint here; pass a run folder"):
        load_model(tmp_path)
