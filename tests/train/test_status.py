"""`hzlm status` on run folders as a running, a stopped and a killed run leave them."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hzlm import cli
from hzlm.config import ModelConfig, RunConfig
from hzlm.errors import UserError
from hzlm.settings import save_settings
from hzlm.train.records import History, identify_process
from hzlm.train.status import TAIL_BYTES, read_status

LINE = {"train/loss": 2.5, "train/accuracy": 0.5, "train/tokens_per_second": 4321.0, "train/flop_utilisation": 0.25}


@pytest.fixture
def run(tmp_path: Path, model_config: ModelConfig) -> Path:
    """A run of 200 steps that has not started."""
    config = RunConfig.model_validate(
        {
            "model": model_config.model_dump(),
            "data": {"path": tmp_path / "data", "views": {"pinyin": 1.0}},
            "schedule": {"scale": 1.0, "warmup_steps": 4},
            "train": {"output": tmp_path, "steps": 200, "micro_batch_rows": 3},
        },
        strict=False,
    )
    save_settings(config, tmp_path / "config.yaml")
    return tmp_path


def append(path: Path, *lines: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def start(**facts: Any) -> dict[str, Any]:
    """The line of a start of this process."""
    pid = os.getpid()
    own = {"host": socket.gethostname(), "pid": pid, "process": identify_process(pid)}
    return {"event": "start", "time": time.time() - 100.0, "step": 0, **own, **facts}


def log(run: Path, now: float) -> None:
    """Entries of steps 10 to 100, two seconds each, the last of them ten seconds ago."""
    append(
        run / "metrics.jsonl",
        *({"step": step, "time": now - 10.0 - 2 * (100 - step) / 10, **LINE} for step in range(10, 101, 10)),
    )


def test_a_running_run(run: Path) -> None:
    now = time.time()
    append(run / "history.jsonl", start())
    log(run, now)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 110, "ti')  # being written
    status = read_status(run)
    assert (status.state, status.step, status.steps) == ("running", 100, 200)
    assert status.steps_per_second == pytest.approx(5.0)
    assert status.seconds_left == pytest.approx(100 / 5.0 - 10.0, abs=1.0)
    text = status.table()
    assert f"running as process {os.getpid()} on {socket.gethostname()} for 1:4" in text
    assert "step 100 of 200 (50.0%), 0:1" in text
    assert "loss 2.500, accuracy 50.0%" in text
    assert "5 steps/s, 4,321 positions/s, 25.0% of the peak" in text
    assert "time left  0:0" in text


def test_a_running_run_that_makes_no_step_has_no_rate(run: Path) -> None:
    now = time.time()
    append(run / "history.jsonl", start())
    append(run / "metrics.jsonl", *({"step": 10, "time": now - seconds, **LINE} for seconds in (5.0, 3.0)))
    status = read_status(run)
    assert (status.state, status.steps_per_second, status.seconds_left) == ("running", None, None)


@pytest.mark.parametrize("step", [10**400, 1 << 31, -1])
def test_a_step_that_no_run_has_is_damage(run: Path, step: int) -> None:
    now = time.time()
    append(run / "history.jsonl", start())
    append(run / "metrics.jsonl", {"step": 10, "time": now - 5.0}, {"step": step, "time": now - 3.0})
    with pytest.raises(UserError, match=r"a line of .* is damaged .*; delete it"):
        read_status(run)


def test_a_process_that_has_only_the_number_of_the_run_is_another(run: Path) -> None:
    own = identify_process(os.getpid())
    assert own is not None
    append(run / "history.jsonl", start(process=own | {"started": own["started"] - 1}))
    log(run, time.time())
    status = read_status(run)
    assert (status.state, status.seconds_left) == ("killed", None)
    assert "killed: no end was recorded, and the last sign of process" in status.table()


def test_a_process_that_was_killed(run: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from hzlm.train.records import History
with History(Path({str(run)!r}), 40):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    status = read_status(run)
    assert (status.state, status.step) == ("killed", 40)


def test_another_machine_cannot_be_looked_into(run: Path) -> None:
    append(run / "history.jsonl", start(host="node7"))
    status = read_status(run)
    assert status.state == "unreachable"
    assert "started on node7, look there; the last sign of process" in status.table()


def test_starts_and_restarts(run: Path) -> None:
    before = start(time=1_000_000.0, pid=11)
    append(run / "history.jsonl", before, {**before, "time": 1_000_100.0, "step": 50})
    append(run / "history.jsonl", {"event": "end", "time": 1_000_160.0, "step": 90, "reason": "stopped by SIGTERM"})
    with History(run, 90) as history:
        history.step = 200
    status = read_status(run)
    assert status.state == "ended"
    assert status.step == 200
    assert [(one.step, one.reason) for one in status.starts] == [
        (0, None), (50, "stopped by SIGTERM"), (90, "finished"),
    ]  # fmt: skip
    lines = status.table().splitlines()
    assert any(line.startswith("state") and "finished, 0:0" in line for line in lines)
    assert any(line.startswith("start 2") and line.endswith("after 1:00: stopped by SIGTERM") for line in lines)


def test_checkpoints(run: Path) -> None:
    folder = run / "checkpoints"
    for step in (20, 100):
        (folder / f"step_{step:08d}").mkdir(parents=True)
        (folder / f"step_{step:08d}" / "weights.safetensors").write_bytes(bytes(step * 1_000_000))
    (folder / "latest").write_text("step_00000100\n")
    (folder / "best").write_text("step_00000020\n")
    status = read_status(run)
    assert status.state == "not started"
    assert status.latest is not None
    assert (status.latest.step, status.latest.bytes) == (100, 100_000_000)
    assert "step 20, 0:0" in status.table()
    assert "100 MB" in status.table()
    (folder / "latest").write_text("step_00000300\n")  # removed since
    (folder / "best").write_text("../../etc\n")
    status = read_status(run)
    assert (status.latest, status.best) == (None, None)


def test_a_long_run_is_read_from_its_end(run: Path) -> None:
    line = json.dumps({"step": 1, "time": 5.0, **LINE}) + "\n"
    (run / "metrics.jsonl").write_text("damaged\n" + line * (2 * TAIL_BYTES // len(line)))
    log(run, time.time())
    assert read_status(run).step == 100


def test_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(tmp_path / "none")]) == 2
    assert "none: no run of hzlm train is here (config.yaml is missing)" in capsys.readouterr().err


words = st.sampled_from(["start", "end", None, -1, 2.5, 1e18, 1e400, "", [], {}])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(sorted(start())), words, max_size=8), max_size=3), st.booleans())
def test_damaged_records_are_an_error_or_an_answer(run: Path, changes: list[dict[str, Any]], ended: bool) -> None:
    (run / "history.jsonl").unlink(missing_ok=True)
    end = {"reason": "finished"} if ended else {}
    append(run / "history.jsonl", *({**start(), **end, **change} for change in changes))
    (run / "metrics.jsonl").unlink(missing_ok=True)
    append(run / "metrics.jsonl", *({"step": 1, "time": 2.0, **change} for change in changes[:1]))
    try:
        status = read_status(run)
    except UserError:
        return
    assert status.table()
    assert json.loads(status.json())["steps"] == 200


def test_json_is_one_object_and_torch_is_not_imported(run: Path) -> None:
    append(run / "history.jsonl", start())
    log(run, time.time())
    program = f"""
import sys
from hzlm import cli
status = cli.main(["status", {str(run)!r}, "--json"])
sys.exit(status or (1 if {{"torch", "numpy", "tensorboard"}} & sys.modules.keys() else 0))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["state"] == "running"
    assert found["values"] == LINE
    assert found["starts"][0]["pid"] == os.getpid()
