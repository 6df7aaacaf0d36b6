"""What a run writes about its starts, and reading lines that are being written or were damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from signal import SIGTERM
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm import __version__
from hzlm.errors import UserError
from hzlm.train.records import HISTORY_FILE, History, identify_process, read_history, read_lines
from hzlm.train.stop import Stopped

objects = st.dictionaries(
    st.text(max_size=5), st.integers() | st.text(max_size=5) | st.floats(allow_nan=False), max_size=4
)


@given(st.lists(objects, max_size=6), st.integers(0, 400))
def test_a_file_cut_anywhere_gives_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    lines = [(json.dumps(value, ensure_ascii=False) + "\n").encode() for value in values]
    path.write_bytes(b"".join(lines)[:cut])
    whole = sum(sum(map(len, lines[: number + 1])) <= cut for number in range(len(lines)))
    assert read_lines(path) == values[:whole]


@given(st.lists(objects, min_size=1, max_size=6), st.integers(0, 400))
def test_the_end_of_a_file_is_its_last_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]], last_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    lines = [(json.dumps(value) + "\n").encode() for value in values]
    path.write_bytes(b"".join(lines))
    found = read_lines(path, last_bytes)
    assert found == values[len(values) - len(found) :]
    following = sum(map(len, lines[len(values) - len(found) - 1 :])) if len(found) < len(values) else 0
    assert len(found) == len(values) or following >= last_bytes, "one more line would have fitted"


@pytest.mark.parametrize("line", [b'{"step": 1', b"[1]", b"\xff", b"", b"[" * 100_000])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(UserError, match=r"lines\.jsonl: line 2 is .*; delete that line"):
        read_lines(path)


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []


def test_a_start_and_its_end(tmp_path: Path) -> None:
    with History(tmp_path, 3, peak={"flops_per_second": 1.0}) as history:
        history.step = 7
    start, end = read_history(tmp_path)
    assert (start["event"], start["step"], start["pid"]) == ("start", 3, os.getpid())
    assert start["process"] == identify_process(os.getpid())
    assert start["versions"]["hzlm"] == __version__
    assert start["versions"].keys() == {"hzlm", "torch", "deepspeed"}
    assert start["peak"] == {"flops_per_second": 1.0}
    assert (end["event"], end["step"], end["reason"]) == ("end", 7, "finished")
    assert start["time"] <= end["time"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Stopped(SIGTERM, "stopped"), "stopped by SIGTERM"),
        (KeyboardInterrupt(), "interrupted"),
        (UserError("no such thing; mend it"), "UserError: no such thing; mend it"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_an_error_is_the_reason(tmp_path: Path, error: BaseException, reason: str) -> None:
    with pytest.raises(type(error)), History(tmp_path, 0):
        raise error
    assert read_history(tmp_path)[-1]["reason"] == reason


def test_a_full_disk_does_not_hide_the_error_that_tells_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path, 0)
    history.__enter__()

    def refuse(event: str, **facts: object) -> None:
        raise OSError("no room for the end")

    monkeypatch.setattr(history, "_append", refuse)
    error = OSError("no room for the checkpoint")
    history.__exit__(type(error), error, None)  # lets that error pass
    with pytest.raises(OSError, match="no room for the end"):
        history.__exit__(None, None, None)


def test_a_line_that_a_kill_cut_off_is_dropped_by_the_next_start(tmp_path: Path) -> None:
    with History(tmp_path, 0):
        pass
    path = tmp_path / HISTORY_FILE
    path.write_text(path.read_text("utf-8") + '{"event": "sta', "utf-8")
    with History(tmp_path, 5):
        pass
    assert [line["event"] for line in read_history(tmp_path)] == ["start", "end", "start", "end"]


def test_a_process_is_known_from_any_other() -> None:
    """By its start, which psutil reads on its own."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        first = identify_process(child.pid)
        assert first == identify_process(child.pid)
        assert first is not None
        ticks = os.sysconf("SC_CLK_TCK")
        since_boot = psutil.Process(child.pid).create_time() - psutil.boot_time()
        assert first["started"] / ticks == pytest.approx(since_boot, abs=2)
        assert first != identify_process(os.getpid())
        child.communicate(b"\n")
    assert identify_process(child.pid) is None


def test_a_process_that_nobody_waited_for_does_not_run() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        assert identify_process(child.pid) is None
