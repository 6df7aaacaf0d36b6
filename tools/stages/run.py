"""Doing the stages: which there are, how one task is done, and how an engine does what is still to be done."""

import errno
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

from safetensors import SafetensorError

from hzlm.errors import UserError
from hzlm.progress import Progress
from hzlm.stored_files import NO_ROOM, force_to_disk
from hzlm.tools.engines.engine import Engine
from hzlm.tools.stages.annotate import ANNOTATE
from hzlm.tools.stages.duplicates import FIND_DOCUMENTS, FIND_SENTENCES
from hzlm.tools.stages.encode import ENCODE
from hzlm.tools.stages.index import INDEX
from hzlm.tools.stages.ngram import BUILD_NGRAM
from hzlm.tools.stages.read import READ
from hzlm.tools.stages.sentences import MAKE_SENTENCES
from hzlm.tools.stages.tally import peak_memory_mb
from hzlm.tools.stages.vocabulary import MAKE_VOCABULARY
from hzlm.tools.stages.work import PLAN_FILE, REPORT_FILE, Stage, Work, is_done, read_key

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        READ,
        FIND_DOCUMENTS,
        MAKE_SENTENCES,
        FIND_SENTENCES,
        ANNOTATE,
        MAKE_VOCABULARY,
        ENCODE,
        INDEX,
        BUILD_NGRAM,
    )
}
"""In their order."""
FULL_BYTES = 64 << 20
"""A disk with less room than this is full: a task writes about as much."""
MODULES = (__name__,)
"""What a process of an engine has to import before it can do tasks."""


def run_stages(work: Work, engine: Engine) -> bool:
    """Does every task that is not done yet, stage after stage; returns whether that were all."""
    is_whole = True
    for stage in STAGES.values():
        count = stage.count_tasks(work)
        pending = [task for task in range(count) if not is_done(work.folder, stage.name, task)]
        is_whole = is_whole and len(pending) == count
        if pending:
            folder = work.folder.absolute()
            key = read_key(folder, stage.name)
            task, done = partial(run_task, folder, stage.name, key), partial(is_done, folder, stage.name)
            with Progress(len(pending), stage.name.replace("_", " "), "tasks") as bar:
                engine.run(stage.name, task, pending, done, bar.advance)
    return is_whole


def run_task(folder: Path, name: str, key: str | None, task: int) -> None:
    """Does a task, unless it is done. What it makes appears at once, when it is whole.

    Where another process did the same task meanwhile, which gives the same result, this one's is thrown away.

    Args:
        folder: the work folder.
        name: of the stage.
        key: what the tasks of the stage belonged to when this one was given out.
        task: its number, from 0.

    Raises:
        UserError: the work folder has been given to other settings since then.
        OSError: among others for want of room, with the work folder's name.
    """
    work = _open_work(folder, (folder / PLAN_FILE).stat().st_mtime_ns)
    target = work.task_folder(name, task)
    if target.is_dir():
        return
    _check_key(folder, name, key)
    left = sum(1 for _ in target.parent.glob(f".{target.name}.*"))
    with _full_disk_explained(folder), _scratch(target) as made:
        start = time.monotonic()
        tally = STAGES[name].run(work, task, made)
        tally.seconds = time.monotonic() - start
        tally.peak_memory_mb = peak_memory_mb()
        tally.killed = left  # each left its scratch folder
        (made / REPORT_FILE).write_text(json.dumps(tally.to_json()), "utf-8")
        for path in made.iterdir():
            force_to_disk(path)
        _check_key(folder, name, key)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():
                raise


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """An empty folder of its own name beside `target`; what is left of it in the end is removed."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True) as outer:
        made = Path(outer) / target.name
        made.mkdir()
        yield made


def _check_key(folder: Path, name: str, key: str | None) -> None:
    if read_key(folder, name) != key:
        raise UserError(f"{folder}: this folder now belongs to another preparation, so stage {name} ends here")


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    """Want of room, in whatever words a library tells of it, becomes an OSError that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        found = error.errno if isinstance(error, OSError) else None
        if found not in NO_ROOM and (found is not None or shutil.disk_usage(folder).free > FULL_BYTES):
            raise
        reason = "no space left on device; what is done stays: make room, and the same command goes on from there"
        raise OSError(found or errno.ENOSPC, reason, str(folder)) from error


@lru_cache(maxsize=1)
def _open_work(folder: Path, written: int) -> Work:
    """The work folder with the plan that was written then, opened once in a process."""
    return Work(folder)
