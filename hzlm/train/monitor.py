"""What a run writes about itself: metrics.jsonl, and the same numbers as TensorBoard events."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from hzlm.stored_files import replacing
from hzlm.train.events import EventFile
from hzlm.train.records import METRICS_FILE, read_metrics

EVENTS_FOLDER = "tensorboard"


class Monitor:
    """Appends the numbers of a step to both records. A resumed run first drops what it will write again."""

    def __init__(self, run_folder: Path, first_step: int):
        """first_step: the first step that this start of the run will make."""
        path = run_folder / METRICS_FILE
        kept = [line for line in read_metrics(run_folder) if line["step"] < first_step]
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        self._lines = path.open("a", encoding="utf-8")
        self._events = EventFile(run_folder / EVENTS_FOLDER, first_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line, one TensorBoard scalar for each value; the names' parts before "/" group the charts."""
        self._lines.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Texts in Markdown by name, for TensorBoard alone."""
        for name, text in texts.items():
            self._events.add_text(name, text, step)
        self._events.flush()

    def flush(self) -> None:
        """Forces both records to the disk: a resumed run writes only what comes after its checkpoint again."""
        os.fsync(self._lines.fileno())
        self._events.force_to_disk()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._lines.close()
        finally:
            self._events.close()
