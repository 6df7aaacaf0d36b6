"""Watching a run: which checkpoints are decoded, what is told of them, and when it ends."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.blend import Blend
from hzlm.errors import UserError
from hzlm.evaluate import checkpoint as checkpoint_module
from hzlm.evaluate.run import evaluate
from hzlm.parallel.mesh import ALONE
from hzlm.parallel.random import make_generator
from hzlm.settings import save_settings
from hzlm.tools import watch as watch_module
from hzlm.tools.watch import watch
from hzlm.train.checkpoint import RunState, save_checkpoint
from hzlm.train.records import History, read_lines

Write = Callable[[Path, Sequence[str]], Path]


@pytest.fixture
def config(tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig) -> RunConfig:
    config = RunConfig.model_validate(
        {
            "model": model_config.model_dump() | {"max_length": 64},
            "data": {"path": write_dataset(tmp_path / "data", sentences), "row_length": 64,
                     "views": {"pinyin": 1.0, "keys": 1.0, "masked": 1.0}},
            "schedule": {"scale": 1.0, "warmup_steps": 10},
            "train": {"output": tmp_path / "run", "steps": 9, "micro_batch_rows": 2, "keep_last": 9},
        },
        strict=False,
    )  # fmt: skip
    config.train.output.mkdir()
    save_settings(config, config.train.output / "config.yaml")
    return config


def save(config: RunConfig, step: int) -> Path:
    blend = Blend.open(config.data, "train")
    engine = FakeEngine(config.model, blend.vocabulary)
    for name, state in engine.parameters.items():
        state.masters.normal_(std=0.1, generator=make_generator(step, name))
        state.weight.data.copy_(state.masters.view_as(state.weight))
    return save_checkpoint(config, engine.engine, blend, RunState(step, cursor=64), {"loss": 1.0}, ALONE)


def look(config: RunConfig, once: bool = True) -> Iterator[tuple[int, dict[str, float]]]:
    return watch(config.train.output, sentences=60, once=once, poll_seconds=0.05)


def test_each_checkpoint_is_measured_once_the_earliest_first(config: RunConfig) -> None:
    save(config, 2)
    latest = save(config, 5)
    found = dict(look(config))
    assert list(found) == [2, 5]
    expected = evaluate(latest, next(iter(config.data.path)), beam=4, views=["pinyin", "keys"])
    for view in ("pinyin", "keys"):
        scores = expected.sources[view].model
        assert found[5][f"{view}/char_accuracy"] == pytest.approx(scores.char_accuracy)
        assert found[5][f"{view}/cer"] == pytest.approx(scores.cer)
    assert found[5]["char_accuracy"] == pytest.approx(expected.total.model.char_accuracy)
    assert 0.0 < found[5]["char_accuracy"] < 1.0
    assert list(look(config)) == []
    save(config, 7)
    assert [step for step, _ in look(config)] == [7]
    lines = read_lines(config.train.output / "watch.jsonl")
    assert [line["step"] for line in lines] == [2, 5, 7]
    assert lines[1].items() >= found[5].items()


def test_tensorboard_shows_figures_and_mistakes(config: RunConfig) -> None:
    for step in (2, 5):
        save(config, step)
    found = dict(look(config))
    events = EventAccumulator(str(config.train.output / "tensorboard" / "watch")).Reload()
    for name in found[2]:
        points = events.Scalars(f"dev/{name}")
        assert [(point.step, point.value) for point in points] == [
            (step, pytest.approx(figures[name], rel=1e-6)) for step, figures in found.items()
        ]
    for name in ("mistakes", "homophones"):
        (text, _) = events.Tensors(f"{name}/text_summary")
        assert b"**" in text.tensor_proto.string_val[0] or name == "homophones"
        assert text.tensor_proto.string_val[0].count(b"|") > 20


def test_a_checkpoint_that_is_no_longer_kept_is_passed_over(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = save(config, 2)
    save(config, 5)
    measure = checkpoint_module.measure_checkpoint

    def remove_and_measure(checkpoint: Path, sentences: int) -> checkpoint_module.Finding:
        if checkpoint == gone:
            shutil.rmtree(gone)
        return measure(checkpoint, sentences)

    monkeypatch.setattr(watch_module, "measure_checkpoint", remove_and_measure)
    assert [step for step, _ in look(config)] == [5]


def test_it_ends_with_the_run(config: RunConfig) -> None:
    save(config, 2)
    found: list[int] = []
    with History(config.train.output, 0):
        watching = threading.Thread(target=lambda: found.extend(step for step, _ in look(config, once=False)))
        watching.start()
        end = time.monotonic() + 60
        while found != [2] and time.monotonic() < end:
            time.sleep(0.05)
        save(config, 9)
    watching.join(60)
    assert not watching.is_alive()
    assert found == [2, 9]


def test_what_a_killed_watcher_wrote_of_a_line_is_dropped(config: RunConfig) -> None:
    save(config, 2)
    (config.train.output / "watch.jsonl").write_text('{"step": 1, "time": 0}\n{"step": 2, "ti', "utf-8")
    assert [step for step, _ in look(config)] == [2]
    lines = (config.train.output / "watch.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_what_cannot_be_watched(config: RunConfig, tmp_path: Path, write_dataset: Write) -> None:
    with pytest.raises(UserError, match="no run folder; give the folder that hzlm train writes"):
        next(watch(tmp_path, 10, True, 1.0))
    save(config, 2)
    write_dataset(tmp_path / "data", [])
    with pytest.raises(UserError, match=r"nothing to decode: the dev splits of .*data hold no sentence"):
        next(look(config))
