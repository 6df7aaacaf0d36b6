"""A run that is killed at any moment goes on as if it had never been: bit for bit."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from hzlm.train.records import read_metrics
from runs import Runner, assert_equal_runs, fresh_environment

STEP = "hzlm.train.engine:Engine.train_step"
MICRO_BATCH = "hzlm.model.losses:TrainingLoss.__call__"
SAVE_FILE = "hzlm.train.checkpoint_write:save_file"
RENAME = "pathlib:Path.rename"
"""A checkpoint to its own name, and the one that is about to be removed to a hidden one."""
REPLACE = "pathlib:Path.replace"
"""config.yaml, deepspeed.json, metrics.jsonl, `latest` and `best`."""
SENTENCES = 60
"""In the dataset: a window of the order, which the cursor counts."""
DISK = [RENAME, REPLACE, SAVE_FILE, "pathlib:Path.mkdir", "os:fsync", "os:unlink", "os:rmdir"]


def kill(runner: Runner, function: str, call: int, *overrides: str, after: bool = False, about: str = "") -> None:
    """Lets the run "killed" go on until the given call of a function, counted from its start."""
    death = {"functions": [function], "call": call, "after": after, "about": about}
    assert runner.run("killed", *overrides, kill=death) == -signal.SIGKILL, runner.log("killed").read_text()


def finish(runner: Runner, *overrides: str) -> None:
    """Brings "killed" to its end and compares it with a run that was never stopped."""
    for name in ("killed", "straight"):
        assert runner.run(name, *overrides) == 0, runner.log(name).read_text()
    assert_equal_runs(runner.folder / "killed", runner.folder / "straight")


@pytest.mark.parametrize(
    "given", [["train.precision=fp32"], ["train.precision=bf16", "train.average_decay=0.9", "train.patience=8"]]
)
def test_killed_while_it_computes(runner: Runner, given: list[str]) -> None:
    """Three micro-batches make a step, five steps an epoch; every third step is saved."""
    kill(runner, MICRO_BATCH, 2, *given)  # before anything is saved
    kill(runner, STEP, 5, *given, after=True)  # the epoch has just ended
    checkpoint = runner.folder / "killed" / "checkpoints" / "step_00000003"
    epoch, row = divmod(json.loads((checkpoint / "manifest.json").read_text())["cursor"], SENTENCES)
    assert epoch == 0, "so that what follows goes across an epoch's end"
    assert row > 0
    kill(runner, MICRO_BATCH, 8, *given)  # step 6, in the middle of its accumulation
    finish(runner, *given)
    manifest = json.loads((runner.folder / "killed" / "checkpoints" / "step_00000012" / "manifest.json").read_text())
    assert manifest["cursor"] // SENTENCES == 2


@pytest.mark.slow
def test_killed_with_every_objective(runner: Runner) -> None:
    """Views, context, inputs and pairs are drawn again as they were, and the cool-down begins where it should."""
    given = [
        "data.views={mixed: 1, keys: 1, masked: 1}", "data.mixed={syllable: 1, mask: 1, hanzi: 1}", "data.context=8",
        "data.begun_rate=0.3", "loss.contrastive_weight=0.2", "sampling.schedule=linear", "sampling.half_steps=8",
        "schedule.cooldown_steps=5", "train.average_decay=0.9",
    ]  # fmt: skip
    kill(runner, STEP, 8, *given, after=True)
    finish(runner, *given)


@pytest.mark.slow
def test_killed_while_it_saves(runner: Runner) -> None:
    checkpoints = runner.folder / "killed" / "checkpoints"

    def names() -> list[str]:
        return sorted(path.name for path in checkpoints.iterdir())

    kill(runner, RENAME, 1)
    assert names() == [".step_00000003.partial"]
    kill(runner, RENAME, 1, after=True)
    assert names() == ["step_00000003"]
    kill(runner, REPLACE, 5)  # the start: config.yaml, deepspeed.json, latest, best, metrics.jsonl
    assert names() == ["best", "latest", "step_00000003"]
    kill(runner, REPLACE, 5)  # latest is there now: the fifth one names step 6
    assert (checkpoints / "latest").read_text() == "step_00000003\n"
    assert (checkpoints / "step_00000006").is_dir()
    kill(runner, "os:unlink", 2, about=".safetensors")  # step 6 goes, since it is made again
    assert [".step_00000006.partial" in names(), "step_00000006" in names()] == [True, False]
    kill(runner, SAVE_FILE, 3)
    assert len(list((checkpoints / ".step_00000006.partial").glob("*.safetensors"))) == 2
    kill(runner, REPLACE, 6)
    assert (checkpoints / "latest").read_text() == "step_00000006\n"
    assert (checkpoints / "best").read_text() == "step_00000003\n", "not judged again yet"
    kill(runner, "os:rmdir", 1, about=".step_")  # step 3 is kept no longer
    assert (checkpoints / "latest").read_text() == "step_00000009\n"
    finish(runner)


def test_the_command_itself_killed_at_random_moments(runner: Runner) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    generator = random.Random(seed)
    folder = runner.folder / "killed"
    command = [sys.executable, "-m", "hzlm.cli", "train", str(runner.config), f"train.output={folder}"]
    for lines in (generator.randrange(2, 5), generator.randrange(5, 8)):
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=fresh_environment()) as process:
            while process.poll() is None and len(read_metrics(folder)) < lines:
                time.sleep(0.01)
            time.sleep(generator.uniform(0, 0.3))
            process.kill()
        assert process.returncode == -signal.SIGKILL
    finish(runner)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_killed_anywhere(runner: Runner, precision: str) -> None:
    """Twelve runs, each killed twice in whatever it does to its folder."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    generator = random.Random(seed)
    given = f"train.precision={precision}"
    assert runner.run("straight", given) == 0
    for number in range(12):
        name = f"killed_{number}"
        for call in (generator.randrange(1, 60), generator.randrange(1, 30)):
            death = {"functions": DISK, "call": call, "after": generator.random() < 0.5}
            assert runner.run(name, given, kill=death) == -signal.SIGKILL, runner.log(name).read_text()
        assert runner.run(name, given) == 0, runner.log(name).read_text()
        assert_equal_runs(runner.folder / name, runner.folder / "straight")
