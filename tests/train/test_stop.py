"""SIGTERM and Ctrl-C: the step is finished and saved, the status tells why, and the same command goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hzlm import cli
from hzlm.config import RunConfig
from hzlm.tools import demo
from hzlm.train.records import read_metrics
from hzlm.train.stop import Stopped, StopSignals, end_at_once
from runs import Runner, assert_equal_runs, fresh_environment


def wait_for_step(folder: Path, step: int) -> None:
    while not any(line["step"] >= step for line in read_metrics(folder)):
        time.sleep(0.005)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_is_saved_and_goes_on(runner: Runner, number: signal.Signals, status: int) -> None:
    folder = runner.folder / "stopped"
    process = runner.start("stopped")
    wait_for_step(folder, 4)
    os.kill(process, number)
    assert runner.wait() == status
    last = runner.log("stopped").read_text().splitlines()[-1]
    found = re.fullmatch(
        rf"hzlm: stopped by {number.name} after step (\d+) of 12; (.*) is whole, "
        "and the same command goes on from there",
        last,
    )
    assert found is not None, last
    assert Path(found[2]) == folder / "checkpoints" / f"step_{int(found[1]):08d}"
    assert (folder / "checkpoints" / "latest").read_text().strip() == Path(found[2]).name
    measured = json.loads((Path(found[2]) / "manifest.json").read_text())["dev"] is not None
    assert measured == (int(found[1]) % 3 == 0), "only what is due is measured"
    assert "Traceback" not in runner.log("stopped").read_text()
    for name in ("stopped", "straight"):
        assert runner.run(name, "train.keep_last=1") == 0
    assert_equal_runs(folder, runner.folder / "straight")


def test_a_second_ctrl_c_ends_it_at_once(runner: Runner) -> None:
    """A step takes so long here that the second one comes in the middle of it."""
    process = runner.start("run", "train.micro_batch_rows=5000", "train.evaluate_every=100", "train.save_every=100")
    wait_for_step(runner.folder / "run", 1)
    time.sleep(0.5)  # so that the first one does not come before the second step has begun
    os.kill(process, signal.SIGINT)
    time.sleep(0.2)
    start = time.monotonic()
    os.kill(process, signal.SIGINT)
    assert runner.wait() == 130
    assert time.monotonic() - start < 5
    assert "ended at once by SIGINT" in runner.log("run").read_text().splitlines()[-1]
    assert not (runner.folder / "run" / "checkpoints").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_it_starts_ends_it_at_once(runner: Runner, number: signal.Signals, status: int) -> None:
    """As soon as the process catches the signal, which is while it imports."""
    command = [sys.executable, "-m", "hzlm.cli", "train", str(runner.config), f"train.output={runner.folder / 'run'}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=fresh_environment()) as process:
        caught = 0
        while not caught >> signal.SIGTERM - 1 & 1:
            time.sleep(0.01)
            text = Path(f"/proc/{process.pid}/status").read_text()
            caught = int(re.search(r"SigCgt:\s*(\w+)", text)[1], 16)  # type: ignore[index]
        time.sleep(0.3)
        process.send_signal(number)
        _, error = process.communicate()
    assert process.returncode == status
    assert error == f"hzlm: ended at once by {number.name}; the same command goes on\n"
    assert not (runner.folder / "run").exists()


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with end_at_once():
        outer = signal.getsignal(signal.SIGTERM)
        with StopSignals() as signals:
            assert signals.caught is None
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.caught == signal.SIGTERM
            assert signal.getsignal(signal.SIGINT) is outer, "a Ctrl-C now ends at once"
        assert signal.getsignal(signal.SIGTERM) is outer
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_signal_between_two_handlers_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ctrl-C just after its handler is set, before the block is entered, puts the one before it back."""
    before, install = signal.getsignal(signal.SIGINT), signal.signal
    sent: list[int] = []

    def install_and_send(number: int, handler: object) -> None:
        install(number, handler)  # type: ignore[arg-type]
        if number == signal.SIGINT and not sent:
            sent.append(number)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(signal, "signal", install_and_send)
    with StopSignals() as signals:
        assert signals.caught == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_and_ignored_signals_are_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
    found = []

    def enter() -> None:
        with StopSignals():
            found.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_library_that_does_not_catch_it_ends_with_its_status() -> None:
    program = "from hzlm.train.stop import Stopped\nraise Stopped(15, 'after step 3')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "")


def test_the_demo_does_not_go_on_with_its_next_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = []

    def stop(config: RunConfig, *others: object, **named: object) -> Path:
        trained.append(config)
        if len(trained) == 2:
            raise Stopped(signal.SIGTERM, "stopped after step 3")
        return config.train.output

    (tmp_path / "data").mkdir()
    monkeypatch.setattr(demo, "train", stop)
    assert cli.main(["demo", "--output", str(tmp_path)]) == 143
    assert len(trained) == 2
    assert capsys.readouterr().err == "hzlm: stopped after step 3\n"
