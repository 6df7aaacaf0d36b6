"""`hzlm watch`: the checkpoints of a run, decoded one after the other by a process beside the training."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from hzlm.errors import UserError
from hzlm.evaluate.checkpoint import measure_checkpoint
from hzlm.model.checkpoint_files import CHECKPOINTS, step_of
from hzlm.model.pretrained import list_checkpoints
from hzlm.train.events import EventFile
from hzlm.train.monitor import EVENTS_FOLDER
from hzlm.train.records import CONFIG_FILE, drop_unfinished_line, read_lines
from hzlm.train.status import read_status

WATCH_FILE = "watch.jsonl"
"""One line for each checkpoint that was measured: "step", "time" (seconds since the epoch), and figures by name."""
WATCH_FOLDER = "watch"
"""In the folder of events: TensorBoard follows one writer a folder, and shows this one beside the training."""


def watch(run: Path, sentences: int, once: bool, poll_seconds: float) -> Iterator[tuple[int, dict[str, float]]]:
    """Measures each checkpoint that was not yet, the earliest first, whatever layout wrote it.

    Args:
        run: folder of a run, which may go on at the same time.
        sentences: dev sentences of each view (`measure_checkpoint`).
        once: end when all checkpoints that there are have been measured, rather than with the run.
        poll_seconds: between two looks at the folder.

    Yields:
        The step of a checkpoint and its figures, once they stand in RUN/watch.jsonl and in TensorBoard's files.

    Raises:
        UserError: the folder is no run, or a checkpoint or its data cannot be read.
    """
    if not (run / CONFIG_FILE).is_file():
        raise UserError(f"{run}: no run folder; give the folder that hzlm train writes")
    drop_unfinished_line(run / WATCH_FILE)
    measured = {line["step"] for line in read_lines(run / WATCH_FILE)}
    events: EventFile | None = None
    try:
        while True:
            # looked at before the folder, so that no checkpoint comes between
            is_running = not once and read_status(run).state in ("running", "not started", "unreachable")
            waiting = [path for path in list_checkpoints(run / CHECKPOINTS) if step_of(path) not in measured]
            if not waiting and not is_running:
                return
            if not waiting:
                time.sleep(poll_seconds)
                continue
            checkpoint, step = waiting[0], step_of(waiting[0])
            measured.add(step)
            try:
                found = measure_checkpoint(checkpoint, sentences)
            except UserError:
                if checkpoint.exists():
                    raise
                continue  # the run no longer keeps it
            events = events or EventFile(run / EVENTS_FOLDER / WATCH_FOLDER, step)
            for name, value in found.figures.items():
                events.add_scalar(f"dev/{name}", value, step)
            for name, text in found.texts.items():
                events.add_text(name, text, step)
            events.flush()
            with (run / WATCH_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "time": time.time(), **found.figures}) + "\n")
            yield step, found.figures
    finally:
        if events is not None:
            events.close()
