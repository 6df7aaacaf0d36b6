"""What a run records about itself as JSON lines: its measurements, and when it was started and how it ended.

Reading these files needs no PyTorch, and works while the run is writing them.
"""

import importlib.metadata
import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Any, Self

from hzlm.errors import UserError
from hzlm.stored_json import parse_json
from hzlm.train.stop import Stopped

CONFIG_FILE = "config.yaml"
"""The config of the run, every field spelt out."""
METRICS_FILE = "metrics.jsonl"
"""One line for each step that was logged: "step", "time" (seconds since the epoch), and values by name."""
HISTORY_FILE = "history.jsonl"
"""One line for each start, and one for each end that was not a kill, in the order they happened."""

TIMING = frozenset(
    {"time", "train/tokens_per_second", "train/model_flops_per_second", "train/flop_utilisation"}
)  # fmt: skip
"""What may differ between the lines of two runs that are otherwise equal: it depends on the clock."""

VERSIONS_OF = ("hzlm", "torch", "deepspeed")


class History:
    """Records one start of a run, and its end: as a context manager around the training loop.

    The line of a start holds "event", "time", "step" (steps made before it), "host", "pid", "process" (what
    `identify_process` tells), "versions" and what the caller adds; that of an end "event", "time", "step" and "reason".
    """

    def __init__(self, run_folder: Path, step: int, **facts: Any) -> None:
        """step: steps made so far. facts: values for JSON that the line of this start shall also hold."""
        self.step = step
        """Steps made so far; whoever trains keeps it up to date."""
        self.reason = "finished"
        """Why it ends, where no error ends it."""
        self._path = run_folder / HISTORY_FILE
        self._facts = facts

    def __enter__(self) -> Self:
        drop_unfinished_line(self._path)
        pid = os.getpid()
        own = {"host": socket.gethostname(), "pid": pid, "process": identify_process(pid), "versions": versions()}
        self._append("start", **own, **self._facts)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._append("end", reason=self.reason if error is None else _reason(error))
        except OSError:
            # the same full disk, perhaps; the error that ended the run says more
            if error is None:
                raise

    def _append(self, event: str, **facts: Any) -> None:
        line = {"event": event, "time": time.time(), "step": self.step, **facts}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_metrics(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none where it is missing. Raises UserError where a line is damaged."""
    path = run_folder / METRICS_FILE
    entries = read_lines(path)
    for number, entry in enumerate(entries, start=1):
        if type(entry.get("step")) is not int or not all(type(value) in (int, float) for value in entry.values()):
            raise UserError(f"{path}: line {number} is damaged (not a step and numbers by name); delete that line")
    return entries


def read_history(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of history.jsonl; none where it is missing. Raises UserError where a line is damaged."""
    return read_lines(run_folder / HISTORY_FILE)


def read_lines(path: Path, last_bytes: int | None = None) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines.

    A last line without its end, which is being written or was when the run was killed, is left out.

    Args:
        path: of the file; one that does not exist has no lines.
        last_bytes: read only whole lines within this many bytes of the end; None for all.

    Raises:
        UserError: a line is no JSON object.
    """
    if not path.is_file():
        return []
    with path.open("rb") as file:
        skipped = max(0, path.stat().st_size - last_bytes) if last_bytes is not None else 0
        file.seek(skipped)
        lines = file.read().split(b"\n")[:-1]
    found = []
    for number, line in enumerate(lines[1:] if skipped else lines, start=1):
        place = "in its last part, line" if skipped else "line"
        try:
            value = parse_json(line.decode("utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: {place} {number} is damaged ({error}); delete that line") from error
        if not isinstance(value, dict):
            raise UserError(f"{path}: {place} {number} is no JSON object; delete that line")
        found.append(value)
    return found


def drop_unfinished_line(path: Path) -> None:
    """Cuts off what a killed run wrote of a last line, so that the next line can follow."""
    if path.is_file():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def identify_process(pid: int) -> dict[str, Any] | None:
    """What tells a process from all others that ever have its number; None where none runs, or no Linux.

    Returns:
        "boot" (id of the machine's boot) and "started" (clock ticks from the boot to the start of the process).
    """
    try:
        # the name of the program, in parentheses, may hold blanks; proc(5) counts the start time as field 22
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return None
    # Z and X: it has ended, and only its parent has not asked for its status yet
    return None if fields[0] in "ZX" else {"boot": boot, "started": int(fields[19])}


def versions() -> Mapping[str, str]:
    """Read from the installed packages: importing them takes seconds."""
    found = {}
    for name in VERSIONS_OF:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _reason(error: BaseException) -> str:
    match error:
        case KeyboardInterrupt():
            return "interrupted"
        case Stopped():
            return f"stopped by {Signals(error.number).name}"
        case _:
            return f"{type(error).__name__}: {error}".rstrip(": ")
