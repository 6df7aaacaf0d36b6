"""`hzlm status`: what a person wants to know of a run, whether it is running or not."""

import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hzlm.config import load_config
from hzlm.errors import UserError
from hzlm.model.checkpoint_files import BEST, CHECKPOINTS, LATEST, STEP_FOLDER, step_of
from hzlm.progress import format_seconds
from hzlm.train.records import CONFIG_FILE, HISTORY_FILE, METRICS_FILE, identify_process, read_history, read_lines

TAIL_BYTES = 1 << 18
"""So much of the end of metrics.jsonl is read: hundreds of entries, and in no time also of a long run."""
END_OF_TIME = 1e11
"""No record is younger, in seconds since the epoch."""
END_OF_STEPS = 1 << 31
"""No run has so many steps."""
RECENT = 20
"""Entries of metrics.jsonl that the rate is taken from."""


@dataclass(frozen=True)
class Start:
    """One start of a run. Times in seconds since the epoch."""

    time: float
    step: int
    """Steps made before it."""
    host: str
    pid: int
    ended: float | None
    """None where it runs, or left no trace of its end."""
    reason: str | None
    """Why it ended: "finished", "stopped by SIGTERM" and the like, or the error."""


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint on disk."""

    folder: str
    step: int
    time: float
    """When it was written, in seconds since the epoch."""
    bytes: int


@dataclass(frozen=True)
class Status:
    """A run at one moment. What is not known yet is None, or missing from `values`."""

    run: str
    state: str
    """"running", "ended", "killed", "unreachable" (started on another machine, its end unknown) or "not started"."""
    time: float
    """When this was found out."""
    step: int
    steps: int
    values: Mapping[str, float]
    """The newest value of each metric."""
    steps_per_second: float | None
    """Over the last entries, with evaluations and checkpoints in between."""
    seconds_left: float | None
    """None where it does not run."""
    last_sign: float | None
    """Time of the last entry or start."""
    latest: StoredCheckpoint | None
    best: StoredCheckpoint | None
    starts: Sequence[Start]

    def json(self) -> str:
        """All of it in one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def table(self) -> str:
        """A line for each thing to know."""
        rows = [("run", self.run), ("state", self._describe_state()), ("progress", self._describe_progress())]
        rows += [(split, text) for split in ("train", "dev") if (text := self._describe_values(split))]
        if self.steps_per_second is not None:
            rows.append(("rate", self._describe_rate(self.steps_per_second)))
        if self.seconds_left is not None:
            rows.append(("time left", format_seconds(self.seconds_left)))
        for name, checkpoint in (("checkpoint", self.latest), ("best", self.best)):
            if checkpoint is not None:
                rows.append((name, self._describe_checkpoint(checkpoint)))
        rows += [(f"start {number}", _describe_start(start)) for number, start in enumerate(self.starts, start=1)]
        width = max(len(name) for name, _ in rows) + 2
        return "\n".join(f"{name:<{width}}{text}" for name, text in rows)

    def _describe_state(self) -> str:
        if not self.starts:
            return self.state
        start = self.starts[-1]
        match self.state:
            case "ended":
                assert start.ended is not None
                return f"{start.reason}, {format_seconds(max(0.0, self.time - start.ended))} ago"
            case "running":
                return f"running as process {start.pid} on {start.host} for {format_seconds(self.time - start.time)}"
            case _:
                assert self.last_sign is not None
                rest = f"the last sign of process {start.pid} is {format_seconds(self.time - self.last_sign)} old"
                if self.state == "unreachable":
                    return f"started on {start.host}, look there; {rest}"
                return f"killed: no end was recorded, and {rest}"

    def _describe_progress(self) -> str:
        text = f"step {self.step:,} of {self.steps:,} ({self.step / self.steps:.1%})"
        if self.state == "running" and self.last_sign is not None:
            text += f", {format_seconds(max(0.0, self.time - self.last_sign))} ago"
        return text

    def _describe_values(self, split: str) -> str:
        shown = []
        if (loss := self.values.get(f"{split}/loss", self.values.get(f"{split}/decoder_loss"))) is not None:
            shown.append(f"loss {loss:.3f}")
        if (accuracy := self.values.get(f"{split}/accuracy")) is not None:
            shown.append(f"accuracy {accuracy:.1%}")
        return ", ".join(shown)

    def _describe_rate(self, steps_per_second: float) -> str:
        shown = [f"{steps_per_second:.3g} steps/s"]
        if (positions := self.values.get("train/tokens_per_second")) is not None:
            shown.append(f"{positions:,.0f} positions/s")
        if (utilisation := self.values.get("train/flop_utilisation")) is not None:
            shown.append(f"{utilisation:.1%} of the peak")
        return ", ".join(shown)

    def _describe_checkpoint(self, checkpoint: StoredCheckpoint) -> str:
        age = format_seconds(max(0.0, self.time - checkpoint.time))
        return f"step {checkpoint.step:,}, {age} old, {checkpoint.bytes / 1e6:,.0f} MB"


def read_status(run: Path) -> Status:
    """Looks at a run folder, and at the process that writes it, if one does.

    Raises:
        UserError: it is no run folder, or one of its records is damaged.
    """
    config_path = run / CONFIG_FILE
    if not config_path.is_file():
        raise UserError(f"{run}: no run of hzlm train is here ({CONFIG_FILE} is missing); pass its train.output")
    steps = load_config(config_path).train.steps
    history = read_history(run)
    entries = read_lines(run / METRICS_FILE, TAIL_BYTES)
    try:
        starts = _pair_starts(history)
        values = {name: float(value) for entry in entries for name, value in entry.items()}
        newest = [*history[-1:], *entries[-1:]]
        step = max((_step_at(line) for line in newest), default=0)
        last_sign = max((_time_of(line) for line in newest), default=None)
        state = _find_state(history)
        rate = _find_rate(entries, starts)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{run}: a line of {HISTORY_FILE} or {METRICS_FILE} is damaged ({type(error).__name__}: {error}); delete it"
        ) from error
    now = time.time()
    left = None
    if state == "running" and rate is not None and last_sign is not None:
        left = max(0.0, (steps - step) / rate - (now - last_sign))
    return Status(
        run=str(run),
        state=state,
        time=now,
        step=step,
        steps=steps,
        values={name: value for name, value in values.items() if "/" in name},
        steps_per_second=rate,
        seconds_left=left,
        last_sign=last_sign,
        latest=_look_at(run / CHECKPOINTS, LATEST),
        best=_look_at(run / CHECKPOINTS, BEST),
        starts=starts,
    )


def _pair_starts(history: Sequence[Mapping[str, Any]]) -> list[Start]:
    """Each start with the end that follows it, if any does before the next start."""
    starts: list[Start] = []
    for line in history:
        if line["event"] == "start":
            host, pid = str(line["host"]), int(line["pid"])
            starts.append(Start(_time_of(line), _step_at(line), host, pid, ended=None, reason=None))
        elif starts:
            starts[-1] = replace(starts[-1], ended=_time_of(line), reason=str(line["reason"]))
    return starts


def _find_state(history: Sequence[Mapping[str, Any]]) -> str:
    if not history:
        return "not started"
    line = history[-1]
    if line["event"] == "end":
        return "ended"
    if line["host"] != socket.gethostname() or line["process"] is None:
        return "unreachable"
    return "running" if identify_process(int(line["pid"])) == line["process"] else "killed"


def _find_rate(entries: Sequence[Mapping[str, Any]], starts: Sequence[Start]) -> float | None:
    """Steps a second over the newest entries of the last start; None before the second step of them."""
    since = starts[-1].time if starts else 0.0
    recent = [entry for entry in entries[-RECENT:] if _time_of(entry) >= since]
    if not recent:
        return None
    steps = _step_at(recent[-1]) - _step_at(recent[0])
    seconds = _time_of(recent[-1]) - _time_of(recent[0])
    return steps / seconds if steps > 0 and seconds > 0 else None


def _time_of(line: Mapping[str, Any]) -> float:
    found = float(line["time"])
    if not 0 <= found < END_OF_TIME:
        raise ValueError(f"time {found}")
    return found


def _step_at(line: Mapping[str, Any]) -> int:
    found = int(line["step"])
    if not 0 <= found < END_OF_STEPS:
        raise ValueError(f"step {found}")
    return found


def _look_at(checkpoints: Path, pointer: str) -> StoredCheckpoint | None:
    """The checkpoint that `latest` or `best` names; None where there is none (yet, or any more)."""
    try:
        name = (checkpoints / pointer).read_text("utf-8", "replace").strip()
        if not STEP_FOLDER.fullmatch(name):
            return None
        folder = checkpoints / name
        size = sum(file.stat().st_size for file in folder.iterdir())
        return StoredCheckpoint(str(folder), step_of(folder), folder.stat().st_mtime, size)
    except FileNotFoundError:
        return None


def _describe_start(start: Start) -> str:
    begun = f"{datetime.fromtimestamp(start.time):%Y-%m-%d %H:%M} at step {start.step:,} on {start.host}"
    if start.ended is None:
        return begun
    return f"{begun}; after {format_seconds(start.ended - start.time)}: {start.reason}"
