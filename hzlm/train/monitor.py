"""What a run writes about itself: metrics.jsonl, and the same numbers as TensorBoard events."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard.writer import SummaryWriter

METRICS_FILE = "metrics.jsonl"
EVENTS_FOLDER = "tensorboard"


class Monitor:
    """Appends the numbers of a step to both records. A resumed run first drops what it will write again."""

    def __init__(self, run_folder: Path, first_step: int):
        """first_step: the first step that this start of the run will make."""
        path = run_folder / METRICS_FILE
        kept = [line for line in read_metrics(run_folder) if line["step"] < first_step]
        temporary = path.with_name(path.name + ".partial")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        temporary.rename(path)
        self._lines = path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(run_folder / EVENTS_FOLDER), purge_step=first_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line, one TensorBoard scalar for each value; the names' parts before "/" group the charts."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        """Puts the events on the disk: a resumed run writes only those after its checkpoint again."""
        self._events.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._events.close()


def read_metrics(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a killed run did not finish is left out."""
    path = run_folder / METRICS_FILE
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
