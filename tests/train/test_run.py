"""A whole run: what it writes, that it goes on where it was stopped, and what it refuses."""

import json
import os
import re
import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hzlm.config import ModelConfig, RunConfig, load_config
from hzlm.errors import UserError
from hzlm.model.pretrained import find_checkpoint
from hzlm.train.records import TIMING, read_history, read_metrics
from hzlm.train.run import train
from hzlm.train.stop import Stopped

Write = Callable[[Path, Sequence[str]], Path]
SPEED = "train/tokens_per_second"


@pytest.fixture
def make_config(
    tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig
) -> Callable[..., RunConfig]:
    data = write_dataset(tmp_path / "data", sentences)

    def make(name: str, **train: object) -> RunConfig:
        return RunConfig.model_validate(
            {
                "model": model_config.model_dump() | {"dropout": 0.1},
                "data": {"path": data, "row_length": 20, "views": {"pinyin": 2.0, "masked": 1.0}},
                "schedule": {"scale": 1.0, "warmup_steps": 4},
                "train": {
                    "output": tmp_path / name, "steps": 8, "micro_batch_rows": 3, "accumulation": 2, "log_every": 1,
                    "evaluate_every": 4, "save_every": 3, "precision": "bf16", **train,
                },
            },
            strict=False,
        )  # fmt: skip

    return make


def test_a_run_writes_what_it_promises(make_config: Callable[..., RunConfig]) -> None:
    config = make_config("run")
    folder = train(config)
    assert load_config(folder / "config.yaml") == config
    settings = json.loads((folder / "deepspeed.json").read_text())
    assert settings["zero_optimization"]["stage"] == 1
    assert settings["gradient_clipping"] == config.optimizer.gradient_clipping
    lines = read_metrics(folder)
    assert [line["step"] for line in lines] == list(range(1, 9))
    wanted = {"train/loss", "train/learning_rate", "train/gradient_norm", SPEED, "train/real_positions"}
    assert all(wanted <= line.keys() for line in lines)
    assert [line["step"] for line in lines if "dev/decoder_loss" in line] == [3, 4, 6, 8]
    assert all(0 <= line["dev/accuracy"] <= 1 for line in lines if "dev/accuracy" in line)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {name for line in lines for name in line} - {"step", "time"}
    losses = [event.value for event in events.Scalars("train/loss")]
    assert losses == pytest.approx([line["train/loss"] for line in lines], rel=1e-6)
    rates = [32**-0.5 * min(step**-0.5, step * 4**-1.5) for step in range(1, 9)]
    assert [line["train/learning_rate"] for line in lines] == pytest.approx(rates)
    kept = sorted(path.name for path in (folder / "checkpoints").glob("step_*"))
    assert kept[-2:] == ["step_00000006", "step_00000008"]
    best = min((line for line in lines if line["step"] in (3, 6, 8)), key=lambda line: line["dev/loss"])
    assert (folder / "checkpoints" / "best").read_text() == f"step_{best['step']:08d}\n"
    assert len(kept) == (3 if best["step"] == 3 else 2)


def test_the_same_command_goes_on_bit_for_bit(make_config: Callable[..., RunConfig]) -> None:
    straight = train(make_config("straight"))
    train(make_config("stopped", steps=5))
    stopped = train(make_config("stopped", steps=8))

    def numbers(folder: Path) -> list[dict[str, float]]:
        return [{k: v for k, v in line.items() if k not in TIMING} for line in read_metrics(folder)]

    assert numbers(stopped)[5:] == numbers(straight)[5:]
    for kind in ("weights", "masters", "exp_avg", "exp_avg_sq"):
        ours, theirs = (load_file(find_checkpoint(f) / f"{kind}-00000-00000.safetensors") for f in (stopped, straight))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    before = read_metrics(straight)
    train(make_config("straight"))
    assert read_metrics(straight) == before, "a finished run has nothing left to do"


def test_lines_after_the_checkpoint_are_written_anew(make_config: Callable[..., RunConfig]) -> None:
    folder = train(make_config("run", steps=3))
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "train/loss": 99.0}\n{"step": 5, "tra')
    train(make_config("run", steps=5))
    lines = read_metrics(folder)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[3]["train/loss"] < 20


def test_a_run_starts_from_the_weights_of_another(make_config: Callable[..., RunConfig]) -> None:
    first = train(make_config("first"))
    second = train(make_config("second", initial_weights=first, seed=2, steps=1))
    ours, theirs = (load_file(find_checkpoint(f) / "masters-00000-00000.safetensors") for f in (second, first))
    for name in ("tokens.weight", "encoder.0.attention.query.weight"):
        change = (ours[name] - theirs[name]).norm() / theirs[name].norm()
        assert 0 < change < 0.1, "one small step away"


def test_another_config_is_refused_by_the_run_folder(make_config: Callable[..., RunConfig]) -> None:
    train(make_config("run", steps=1))
    with pytest.raises(UserError, match=r"this run began with train.seed = 1, not 2; set it back, or choose another"):
        train(make_config("run", steps=2, seed=2))


def test_other_rows_to_measure_on_are_refused(make_config: Callable[..., RunConfig]) -> None:
    """The best checkpoint is found by comparing losses, which were then of different rows."""
    train(make_config("run", steps=1))
    with pytest.raises(UserError, match=r"this run began with train.evaluate_rows = 64, not 8"):
        train(make_config("run", steps=2, evaluate_rows=8))


def test_fewer_steps_than_were_made_are_refused(make_config: Callable[..., RunConfig]) -> None:
    folder = train(make_config("run", steps=3))
    with pytest.raises(
        UserError, match=r"train.steps is 2, but this run has already made 3; raise it, or choose another train.output"
    ):
        train(make_config("run", steps=2))
    assert load_config(folder / "config.yaml").train.steps == 3


def test_a_run_does_not_go_on_with_other_data(
    make_config: Callable[..., RunConfig], write_dataset: Write, sentences: list[str]
) -> None:
    config = make_config("run", steps=1)
    train(config)
    (folder,) = config.data.path
    write_dataset(folder, sentences[:30])
    with pytest.raises(UserError, match=r"not the data that .*step_00000001 was trained on; put that back, or choose"):
        train(make_config("run", steps=2))
    assert load_config(config.train.output / "config.yaml") == config, "it is as it was"


def test_a_blend_goes_on_bit_for_bit_and_names_the_dataset_that_changed(
    make_config: Callable[..., RunConfig], write_dataset: Write, sentences: list[str], tmp_path: Path
) -> None:
    second = write_dataset(tmp_path / "second", ["".join(pair) for pair in pairwise(sentences)])

    def make_blend(name: str, steps: int) -> RunConfig:
        config = make_config(name, steps=steps)
        folders = {**config.data.path, second: 2.0}
        fields = {"path": folders, "row_length": 32, "temperature": 2.0}
        wider = config.model.model_copy(update={"max_length": 32})
        return config.model_copy(update={"data": config.data.model_copy(update=fields), "model": wider})

    straight = train(make_blend("straight", steps=8))
    train(make_blend("stopped", steps=5))
    stopped = train(make_blend("stopped", steps=8))
    ours, theirs = (load_file(find_checkpoint(run) / "masters-00000-00000.safetensors") for run in (stopped, straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert load_config(stopped / "config.yaml") == make_blend("stopped", steps=8)
    write_dataset(second, sentences[:30])
    with pytest.raises(UserError, match=rf"{second}: not the data that .*step_00000008 was trained on"):
        train(make_blend("stopped", steps=9))


def test_the_first_line_tells_what_is_read_and_how_full_the_rows_are(
    make_config: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str], sentences: list[str]
) -> None:
    config = make_config("run", steps=1)
    train(config)
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("training run: "))
    (folder,) = config.data.path
    told = re.fullmatch(
        rf"training run: {folder} \(100\.0%\), 60 sentences, {sum(map(len, sentences))} positions; "
        r"rows (\d+\.\d)% full",
        line,
    )
    assert told is not None, line
    assert 90 < float(told[1]) <= 100


def test_a_sentence_longer_than_the_position_table_is_named(make_config: Callable[..., RunConfig]) -> None:
    config = make_config("run")
    config = config.model_copy(update={"model": config.model.model_copy(update={"max_length": 10})})
    with pytest.raises(UserError, match=r"model.max_length is 10, but .* holds a sentence of 16 positions: raise it"):
        train(config)


def test_the_caller_adds_texts_to_every_checkpoint(make_config: Callable[..., RunConfig]) -> None:
    seen: list[Path] = []

    def describe(checkpoint: Path) -> dict[str, str]:
        assert (checkpoint / "manifest.json").is_file()
        seen.append(checkpoint)
        return {"conversions": f"**{checkpoint.name}**"}

    folder = train(make_config("run", steps=7), on_checkpoint=describe)
    names = ["step_00000003", "step_00000006", "step_00000007"]
    assert [path.name for path in seen] == names
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    texts = events.Tensors("conversions/text_summary")
    assert [(event.step, event.tensor_proto.string_val[0].decode()) for event in texts] == [
        (int(name[-2:]), f"**{name}**") for name in names
    ]


@pytest.mark.parametrize("error", [UserError("no such file; make it"), OSError("no such file; make it")])
def test_a_caller_that_fails_does_not_end_the_training(make_config: Callable[..., RunConfig], error: Exception) -> None:
    def fail(checkpoint: Path) -> dict[str, str]:
        raise error

    folder = train(make_config("run", steps=3), on_checkpoint=fail)
    assert read_history(folder)[-1]["reason"] == "finished"
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    (event,) = events.Tensors("conversions/text_summary")
    assert event.tensor_proto.string_val[0].decode() == "no such file; make it"


def test_a_signal_while_the_last_checkpoint_is_written_counts(make_config: Callable[..., RunConfig]) -> None:
    def interrupt(checkpoint: Path) -> dict[str, str]:
        if checkpoint.name == "step_00000004":
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    with pytest.raises(Stopped, match=r"stopped by SIGTERM after step 4 of 4; .*step_00000004 is whole") as caught:
        train(make_config("run", steps=4), on_checkpoint=interrupt)
    assert caught.value.status == 143
    assert read_history(make_config("run").train.output)[-1]["reason"] == "stopped by SIGTERM"


def test_a_run_records_its_starts_and_how_it_measures(make_config: Callable[..., RunConfig]) -> None:
    train(make_config("run", steps=5))
    folder = train(make_config("run", steps=8))
    lines = read_history(folder)
    assert [(line["event"], line["step"]) for line in lines] == [("start", 0), ("end", 5), ("start", 5), ("end", 8)]
    peak = lines[2]["peak"]
    assert "bfloat16" in peak["origin"]
    metrics = [line for line in read_metrics(folder) if line["step"] > 5]
    for line in metrics:
        assert line["train/flop_utilisation"] == pytest.approx(
            line["train/model_flops_per_second"] / peak["flops_per_second"]
        )
    assert all(lines[2]["time"] <= line["time"] <= lines[3]["time"] for line in metrics)
    assert [line["step"] for line in read_metrics(folder) if "train/batch_positions" in line] == [4, 8]
