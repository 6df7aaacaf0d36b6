"""TensorBoard's files of events.

TensorBoard's own writer hands events to a thread, whose errors come late, with a traceback, and leave what follows to
chance. One step makes few events, so here they are written where they arise, in TensorBoard's record format.
"""

import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import scalar, text

FILE_VERSION = "brain.Event:2"


class EventFile:
    """A new file of events. Every method raises OSError where the disk takes no more."""

    def __init__(self, folder: Path, first_step: int):
        """first_step: what earlier files hold from this step on is void."""
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names
        self._file = (folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}").open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(file_version=FILE_VERSION))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))
        self._file.flush()

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """A point of the chart `name`."""
        self._write(Event(step=step, summary=scalar(name, value)))

    def add_text(self, name: str, content: str, step: int) -> None:
        """A text in Markdown."""
        self._write(Event(step=step, summary=text(name, content)))

    def flush(self) -> None:
        """Lets readers see all events so far."""
        self._file.flush()

    def force_to_disk(self) -> None:
        """After a flush: returns when the disk itself has them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
