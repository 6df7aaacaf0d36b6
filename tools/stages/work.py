"""The work folder of a preparation: what is asked for, which tasks are done, and what they made.

    plan.json                  input files with size and time of change, pieces of them, settings
    lock                       held by the process that runs the stages
    STAGE/key                  digest of all that the stage's result depends on
    STAGE/00012/               what task 12 of a stage made; it appears when it is whole
    STAGE/00012/report.json    its tally

So a task is done if and only if its folder is there, however and on whichever machine it ran.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hzlm import __version__
from hzlm.errors import UserError
from hzlm.stored_files import replacing
from hzlm.stored_json import load_json
from hzlm.tools.readers.files import Piece
from hzlm.tools.stages.config import PrepareConfig
from hzlm.tools.stages.tally import Tally

FORMAT = "hzlm-work"
VERSION = 1
PLAN_FILE = "plan.json"
REPORT_FILE = "report.json"
KEY_FILE = "key"
_REMOVED = ".removed."
_WRITTEN = frozenset({"arpa"})
"""Settings that name a file to be written."""


@dataclass(frozen=True)
class Stage:
    """A step of the preparation, made of tasks that depend on earlier stages alone."""

    name: str
    settings: tuple[str, ...]
    """The sections of `PrepareConfig` that its result depends on."""
    count_tasks: Callable[["Work"], int]
    """Called when all earlier stages are done."""
    run: Callable[["Work", int, Path], Tally]
    """(work, task, folder) does one task, and writes what it makes into the folder."""


@dataclass(frozen=True)
class Chunk:
    """About a million characters of documents, the unit of work of most stages."""

    number: int
    """In the order of the corpus, from 0."""
    task: int
    """The task of the reading stage that made it."""
    ordinal: int
    """Among the chunks of that task."""


class Work:
    """A work folder that exists; `Work.create` makes one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plan = load_json(folder / PLAN_FILE, "remove the work folder and start again")
        self.config = PrepareConfig.model_validate_json(json.dumps(plan["settings"]))
        self.pieces = [[Piece(Path(path), start, end) for path, start, end in group] for group in plan["pieces"]]
        """What each task of the reading stage reads."""
        self.sources: list[str] = plan["sources"]
        """The name of each input file, by its ordinal."""
        self.ordinal_of = {path: ordinal for ordinal, (path, _, _) in enumerate(plan["files"])}
        """Path of an input file -> its ordinal."""
        self._files: list[tuple[str, int, int]] = plan["files"]

    @classmethod
    def create(cls, folder: Path, plan: dict[str, Any]) -> "Work":
        """Makes the folder, or takes the one that is there and gives it this plan."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / PLAN_FILE) as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, "version": VERSION, **plan}, indent=1), "utf-8")
        return cls(folder)

    def stage_folder(self, stage: str) -> Path:
        """Where the tasks of a stage have their folders."""
        return self.folder / stage

    def task_folder(self, stage: str, task: int) -> Path:
        """Where a task's results are once it is done."""
        return task_folder(self.folder, stage, task)

    def tally(self, stage: str, task: int) -> Tally:
        """What a task that is done did."""
        path = self.task_folder(stage, task) / REPORT_FILE
        return Tally.from_json(load_json(path, "remove the work folder and start again"))

    @cached_property
    def chunks(self) -> list[Chunk]:
        """All chunks, in the order of the corpus; known when the reading stage is done."""
        found: list[Chunk] = []
        for task in range(len(self.pieces)):
            count = self.tally("read", task).made["chunks"]
            found += [Chunk(len(found) + ordinal, task, ordinal) for ordinal in range(count)]
        return found

    def chunk_path(self, chunk: Chunk, ending: str) -> Path:
        """A file of a chunk that the reading stage made."""
        return self.task_folder("read", chunk.task) / f"{chunk.ordinal:05}.{ending}"

    def renew(self, stages: Sequence[Stage]) -> None:
        """Removes what other settings or other inputs have made: the first such stage and all behind it."""
        key = hashlib.sha256(json.dumps([VERSION, __version__, self._files]).encode()).hexdigest()
        is_stale = False
        for stage in stages:
            settings = [_with_files(getattr(self.config, name).model_dump()) for name in stage.settings]
            key = hashlib.sha256(json.dumps([key, stage.name, settings]).encode()).hexdigest()
            folder = self.stage_folder(stage.name)
            is_stale = is_stale or read_key(self.folder, stage.name) != key
            if is_stale:
                remove_at_once(folder)
                folder.mkdir()
                with replacing(folder / KEY_FILE) as temporary:
                    temporary.write_text(key, "utf-8")
            for partial in folder.glob(".*"):
                shutil.rmtree(partial, ignore_errors=True)


def read_key(folder: Path, stage: str) -> str | None:
    """What the tasks of a stage belong to, in the work folder `folder`; None where there is no such stage yet."""
    path = folder / stage / KEY_FILE
    return path.read_text("utf-8") if path.is_file() else None


def remove_at_once(folder: Path) -> None:
    """Removes a folder so that no moment shows a part of it: under its name it is whole, or not there."""
    for leftover in folder.parent.glob(f"{_REMOVED}{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if folder.exists():
        hidden = folder.with_name(f"{_REMOVED}{folder.name}.{secrets.token_hex(4)}")
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def is_done(folder: Path, stage: str, task: int) -> bool:
    """Whether a task is done, in the work folder `folder`."""
    return task_folder(folder, stage, task).is_dir()


def task_folder(folder: Path, stage: str, task: int) -> Path:
    """Where a task's results are once it is done, in the work folder `folder`."""
    return folder / stage / f"{task:05}"


def _with_files(value: Any) -> Any:
    """Settings as JSON; beside each path of a file its size and time of change, for what it holds matters.

    Not so where the file is written, not read.
    """
    match value:
        case Path():
            found = value.stat() if value.is_file() else None
            return [str(value), found and [found.st_size, found.st_mtime_ns]]
        case dict():
            return {name: str(inner) if name in _WRITTEN else _with_files(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_with_files(inner) for inner in value]
    return value


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Holds `folder/lock`; the system frees it when the process ends, however it does.

    Raises:
        UserError: another process holds it.
    """
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another preparation is at work here; wait for it, or choose another output"
            ) from None
        if not folder.exists() or os.fstat(file.fileno()).st_ino != (folder / "lock").stat().st_ino:
            raise UserError(f"{folder}: another preparation has just ended here; look at what it made")
        yield
