"""A disk that fills up: one line that says so, what is whole stays whole, and with room the run goes on bit for bit."""

import errno
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hzlm.model.pretrained import Checkpoint
from hzlm.train.disk import full_disk_explained
from hzlm.train.events import EventFile
from runs import Runner, assert_equal_runs, fresh_environment


def check_line(text: str, folder: Path, reason: str, saved: str) -> None:
    """What the command said is one line, besides those of its progress."""
    lines = [line for line in text.splitlines() if not line.startswith("training ") and "accelerator" not in line]
    assert lines == [f"hzlm: error: {folder}: {reason}; {saved}: make room, and the same command goes on from there"], (
        text
    )


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit(runner: Runner) -> None:
    """A limit on the size of files stands for the disk; safetensors has an error of its own for it."""
    folder = runner.folder / "limited"
    weights = 100_000
    assert runner.run("limited", largest_file=weights) == 1
    check_line(runner.log("limited").read_text(), folder, "file too large", "no checkpoint is saved yet")
    assert list((folder / "checkpoints").iterdir()) == []
    assert runner.run("limited", "train.steps=6") == 0
    runner.log("limited").unlink()
    assert runner.run("limited", largest_file=weights) == 1
    check_line(
        runner.log("limited").read_text(), folder, "file too large", "the last whole checkpoint is step_00000006"
    )
    assert Checkpoint.open(folder).manifest["step"] == 6
    assert not list((folder / "checkpoints").glob(".*"))
    for name in ("limited", "straight"):
        assert runner.run(name) == 0
    assert_equal_runs(folder, runner.folder / "straight")


def test_records_that_do_not_fit(runner: Runner) -> None:
    """No checkpoint comes before they have grown that far."""
    folder, given = runner.folder / "limited", ("train.log_every=1", "train.save_every=12")
    assert runner.run("limited", *given, largest_file=2500) == 1
    check_line(runner.log("limited").read_text(), folder, "file too large", "no checkpoint is saved yet")
    assert max(path.stat().st_size for path in folder.rglob("*") if path.is_file()) == 2500
    for name in ("limited", "straight"):
        assert runner.run(name, *given) == 0
    assert_equal_runs(folder, runner.folder / "straight")


def test_events_that_do_not_fit_are_told_where_they_are_written(tmp_path: Path) -> None:
    """Not later in some thread, as TensorBoard's own writer does it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    events = EventFile(tmp_path, first_step=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        for step in range(1, 40):
            events.add_scalar("train/loss", 1.0, step)
        with pytest.raises(OSError, match="File too large"):
            events.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    events.close()


def test_a_latest_that_names_nothing_does_not_hide_the_full_disk(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "latest").write_text("step_00000009\n")
    with (
        pytest.raises(OSError, match="no space left on device; no checkpoint is saved yet"),
        full_disk_explained(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.slow
def test_a_file_system_that_is_really_full(runner: Runner) -> None:
    """A file system in memory with room for one checkpoint and a half, in a mount namespace of its own."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"]).returncode != 0:
        pytest.skip("this machine does not let users mount file systems (unshare -rm)")
    assert runner.run("straight") == 0
    checkpoint = runner.folder / "straight" / "checkpoints" / "step_00000012"
    room = sum(path.stat().st_size for path in checkpoint.iterdir()) * 3 // 2
    disk = runner.folder / "disk"
    disk.mkdir()
    program = """
        mount -t tmpfs -o size=$1 tmpfs "$2" || exit 99
        "$3" -m hzlm.cli train "$4" "train.output=$2/run" 2> "$2.log"
        echo $?
        ls -A "$2/run/checkpoints"
        mount -o remount,size=1g "$2"
        "$3" -m hzlm.cli train "$4" "train.output=$2/run"
        echo $?
        cp -r "$2/run" "$2.kept"
    """
    command = ["unshare", "-rm", "sh", "-c", program, "sh", room, disk, sys.executable, runner.config]
    words = [str(part) for part in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=fresh_environment())
    lines = [line for line in done.stdout.splitlines() if "accelerator" not in line]
    assert lines == ["1", "best", "latest", "step_00000003", "0"]
    saved = "the last whole checkpoint is step_00000003"
    check_line(runner.log("disk").read_text(), disk / "run", "no space left on device", saved)
    assert_equal_runs(runner.folder / "disk.kept", runner.folder / "straight")
