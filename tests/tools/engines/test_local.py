"""Tasks are done once each, whatever happens to the processes that do them."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

import tasks
from hzlm.errors import UserError
from hzlm.tools.engines.engine import ATTEMPTS, Task
from hzlm.tools.engines.local import LocalEngine
from tasks import UnportableError, begun_by, complain, die, done, fail, leave, note, running, starts

WORKERS = 3


def run(
    folder: Path, what: Task, pending: range = range(12), workers: int = WORKERS, preload: Sequence[str] = ()
) -> int:
    """How often `advance` was called."""
    advanced: list[None] = []
    LocalEngine(workers, preload).run("stage", what, pending, partial(done, folder), partial(advanced.append, None))
    return len(advanced)


@pytest.mark.parametrize("workers", [1, WORKERS])
def test_every_task_is_done_once(tmp_path: Path, workers: int) -> None:
    assert run(tmp_path, partial(note, tmp_path), range(3, 40), workers) == 37
    assert starts(tmp_path) == dict.fromkeys(range(3, 40), 1)
    assert all(done(tmp_path, number) for number in range(3, 40))
    processes = {process for number in range(3, 40) for process in begun_by(tmp_path, number)}
    assert 1 <= len(processes) <= workers, "a process does many tasks"
    assert os.getpid() not in processes


def test_nothing_pending_starts_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, partial(note, tmp_path), range(0)) == 0


def test_no_workers_is_refused() -> None:
    with pytest.raises(UserError, match="workers is 0, but at least 1"):
        LocalEngine(0)


@pytest.mark.parametrize("victim", [0, 5, 11])
def test_a_killed_task_is_redone_and_no_other(tmp_path: Path, victim: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, partial(die, tmp_path, victim=victim, times=2)) == 12
    assert starts(tmp_path) == dict.fromkeys(range(12), 1) | {victim: 3}
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"stage: the process of task {victim} was killed (SIGKILL); the task is redone"] * 2


def test_a_task_that_was_killed_at_its_very_end_is_not_redone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, partial(die, tmp_path, victim=4, times=1, late=True)) == 12
    assert starts(tmp_path) == dict.fromkeys(range(12), 1)
    assert capsys.readouterr().err == ""


def test_a_task_that_is_always_killed_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^stage: .* task 5 was killed \(SIGKILL\), 3 times .*fewer workers"):
        run(tmp_path, partial(die, tmp_path, victim=5, times=ATTEMPTS))
    assert starts(tmp_path)[5] == ATTEMPTS
    assert all(done(tmp_path, number) for number in range(12) if number != 5), "there was time for all others"
    assert run(tmp_path, partial(die, tmp_path, victim=5, times=ATTEMPTS), range(5, 6)) == 1, "started again"


def test_a_process_that_leaves_is_taken_for_killed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task 2 was ended \(status 3\), 3 times"):
        run(tmp_path, partial(leave, status=3), range(2, 3))


@pytest.mark.parametrize("workers", [1, WORKERS])
@pytest.mark.parametrize(
    "error", [UserError("a.txt: broken; mend it"), OSError(errno.ENOSPC, "No space left", "out.bin")]
)
def test_what_a_task_raises_stops_the_run(tmp_path: Path, error: Exception, workers: int) -> None:
    start = time.monotonic()
    with pytest.raises(type(error)) as raised:
        run(tmp_path, partial(fail, tmp_path, victim=0, error=error), workers=workers)
    assert time.monotonic() - start < 20, "the others take a minute"
    assert str(raised.value) == str(error)
    assert "in fail" in raised.value.__notes__[0], "the traceback"
    assert set(starts(tmp_path)) <= set(range(workers)), "nothing more was begun"
    assert not running(tmp_path)


def test_errors_that_look_like_a_lost_process_arrive(tmp_path: Path) -> None:
    with pytest.raises(EOFError, match="cut short"):
        run(tmp_path, partial(complain, EOFError, ("cut short",)))


def test_errors_that_cannot_be_unpickled_arrive(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="UnportableError: a and b"):
        run(tmp_path, partial(complain, UnportableError, ("a", "b")))


def test_a_task_that_is_no_function_of_a_module_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        run(tmp_path, lambda number: None)


@contextmanager
def driver(folder: Path, ready: Callable[[], bool], preload: Sequence[str] = ()) -> Iterator["subprocess.Popen[str]"]:
    """A process of its own that runs tasks of a minute, in a group of processes of its own, when it is ready."""
    environment = os.environ | {"PYTHONPATH": f"{Path(tasks.__file__).parent}:{folder}"}
    command = [sys.executable, __file__, str(folder), *preload]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            end = time.monotonic() + 30
            while not ready():
                assert time.monotonic() < end
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def interrupt(process: "subprocess.Popen[str]") -> None:
    """Does what Ctrl-C does: to all processes of the group."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    with driver(tmp_path, lambda: len(running(tmp_path)) == WORKERS) as process:
        if number == signal.SIGINT:
            interrupt(process)
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == -number
    end = time.monotonic() + 10
    while running(tmp_path):
        assert time.monotonic() < end, "orphans"
        time.sleep(0.02)
    assert errors.count("Traceback") == (number == signal.SIGINT), errors
    assert len(starts(tmp_path)) == WORKERS


@pytest.mark.parametrize("moment", ["begin", "load"])
def test_an_interrupt_before_the_first_task(tmp_path: Path, moment: str) -> None:
    """The fork server has just been started, or loads a module."""
    loading = tmp_path / "loading"
    (tmp_path / "slow.py").write_text(f"import pathlib, time\npathlib.Path({str(loading)!r}).touch()\ntime.sleep(1)\n")

    def is_ready() -> bool:
        return loading.exists() if moment == "load" else bool(fork_servers(tmp_path))

    with driver(tmp_path, is_ready, ["slow"]) as process:
        interrupt(process)
        _, errors = process.communicate(timeout=20)  # until the last process has ended
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1, errors
    assert errors.endswith("\nKeyboardInterrupt\n"), "what the driver itself says, last"
    assert loading.exists(), "or there was nothing to interrupt"
    assert not starts(tmp_path)


def fork_servers(folder: Path) -> list[psutil.Process]:
    """Those whose modules lie in the folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if "forkserver" in str(command) and str(folder) in process.environ().get("PYTHONPATH", ""):
                found.append(process)
    return found


if __name__ == "__main__":
    run(Path(sys.argv[1]), partial(note, Path(sys.argv[1]), seconds=60.0), preload=sys.argv[2:])
