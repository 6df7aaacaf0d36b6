"""Damage to the files of a run: an error line or the right answer, never another exception or a wrong answer."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from fake_engine import FakeEngine, play_ranks
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import altered, altered_json, answer_of, damaged
from hzlm.config import ModelConfig, RunConfig
from hzlm.data.blend import Blend
from hzlm.model.pretrained import load_model
from hzlm.parallel.mesh import Mesh
from hzlm.settings import save_settings
from hzlm.train.checkpoint import RunState, save_checkpoint
from hzlm.train.records import read_metrics
from hzlm.train.status import read_status

Write = Callable[[Path, Sequence[str]], Path]


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str], model_config: ModelConfig
) -> Path:
    """A run folder with one checkpoint, which four ranks have written."""
    folder = tmp_path_factory.mktemp("run")
    config = RunConfig.model_validate(
        {
            "model": model_config.model_dump(),
            "data": {"path": write_dataset(folder / "data", sentences), "views": {"pinyin": 1.0}},
            "schedule": {"scale": 1.0, "warmup_steps": 10},
            "train": {"output": folder, "steps": 5, "micro_batch_rows": 2},
        },
        strict=False,
    )
    blend = Blend.open(config.data, "train")
    save_settings(config, folder / "config.yaml")

    def save(mesh: Mesh) -> None:
        engine = FakeEngine(config.model, blend.vocabulary, mesh).fill().engine
        save_checkpoint(config, engine, blend, RunState(3, cursor=0), {"loss": 2.0}, mesh)

    assert play_ranks(1, 2, 2, save) == [None] * 4
    return folder


@settings(max_examples=40)
@given(st.data())
def test_a_damaged_checkpoint_is_refused_or_loads_the_same_model(run: Path, data: st.DataObject) -> None:
    expected = {name: tensor.clone() for name, tensor in load_model(run)[0].state_dict().items()}
    (folder,) = (run / "checkpoints").glob("step_*")
    pointers = [run / "checkpoints" / name for name in ("latest", "best")]
    path = data.draw(st.sampled_from(sorted([*folder.iterdir(), *pointers])))
    vouched = json.loads((folder / "manifest.json").read_bytes())["files"]
    content = path.read_bytes()
    changed = damaged(content)
    if path.suffix == ".json":
        changed |= altered_json(json.loads(content))
    path.write_bytes(data.draw(changed.filter(lambda found: found != content)))
    try:
        found = answer_of(lambda: load_model(path if path.name == "best" else run), run)
        # also the optimizer's state, which converting does not read, is vouched for
        assert found is None or path.name not in vouched
        if found is not None:
            model = found[0].state_dict()
            assert model.keys() == expected.keys()
            assert all(torch.equal(model[name], expected[name]) for name in expected)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["manifest.json", "config.yaml", "vocabulary.json", "weights-00000-00000.safetensors"])
def test_a_folder_in_place_of_a_file_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    (folder,) = (tmp_path / "checkpoints").glob("step_*")
    (folder / name).unlink()
    (folder / name).mkdir()
    assert answer_of(lambda: load_model(tmp_path), folder / name) is None


ENTRIES = [{"step": step, "time": 1e9 + step, "train/decoder_loss": 9 / step, "dev/accuracy": 0.5} for step in (1, 2)]
HISTORY = [
    {"event": "start", "time": 1e9, "step": 0, "host": "h", "pid": 7, "process": {"boot": "b", "started": 3}},
    {"event": "end", "time": 1e9 + 5, "step": 2, "reason": "finished"},
]


def as_lines(entries: object) -> bytes:
    listed = entries if isinstance(entries, list) else [entries]
    return "".join(json.dumps(entry) + "\n" for entry in listed).encode()


@given(name=st.sampled_from(["metrics.jsonl", "history.jsonl"]), data=st.data())
def test_damaged_records_are_named_or_shown(
    run: Path, tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "records"
    folder.mkdir(exist_ok=True)
    shutil.copy(run / "config.yaml", folder)
    records = {"metrics.jsonl": ENTRIES, "history.jsonl": HISTORY}
    for other, entries in records.items():
        (folder / other).write_bytes(as_lines(entries))
    (folder / name).write_bytes(data.draw(damaged(as_lines(records[name])) | altered(records[name]).map(as_lines)))
    found = answer_of(lambda: read_status(folder), folder)
    if found is not None:
        found.table()
        json.loads(found.json())


@given(damaged(as_lines(ENTRIES)) | altered(ENTRIES).map(as_lines))
def test_damaged_metrics_are_refused_or_numbers(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """What curves are drawn of, and what a run that goes on keeps."""
    folder = tmp_path_factory.getbasetemp() / "metrics"
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_bytes(content)
    for entry in answer_of(lambda: read_metrics(folder), folder) or []:
        assert isinstance(entry["step"], int)
        assert all(isinstance(value, int | float) for value in entry.values())
