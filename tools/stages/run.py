"""Doing the stages: which there are, how one task is done, and how an engine does what is still to be done."""

import json
import tempfile
import time
from functools import lru_cache, partial
from pathlib import Path

from hzlm.progress import Progress
from hzlm.stored_files import force_to_disk
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
from hzlm.tools.stages.work import PLAN_FILE, REPORT_FILE, Stage, Work, is_done

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
MODULES = (__name__,)
"""What a process of an engine has to import before it can do tasks."""


def run_stages(work: Work, engine: Engine) -> None:
    """Does every task that is not done yet, stage after stage."""
    for stage in STAGES.values():
        pending = [task for task in range(stage.count_tasks(work)) if not is_done(work.folder, stage.name, task)]
        if pending:
            folder = work.folder.absolute()
            task, done = partial(run_task, folder, stage.name), partial(is_done, folder, stage.name)
            with Progress(len(pending), stage.name.replace("_", " "), "tasks") as bar:
                engine.run(stage.name, task, pending, done, bar.advance)


def run_task(folder: Path, name: str, task: int) -> None:
    """Does a task, unless it is done. What it makes appears at once, when it is whole.

    Where another process did the same task meanwhile, which gives the same result, this one's is thrown away.

    Args:
        folder: the work folder.
        name: of the stage.
        task: its number, from 0.
    """
    work = _open_work(folder, (folder / PLAN_FILE).stat().st_mtime_ns)
    target = work.task_folder(name, task)
    if target.is_dir():
        return
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f".{task:05}.", dir=target.parent, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / target.name
        made.mkdir()
        tally = STAGES[name].run(work, task, made)
        tally.seconds = time.monotonic() - start
        tally.peak_memory_mb = peak_memory_mb()
        (made / REPORT_FILE).write_text(json.dumps(tally.to_json()), "utf-8")
        for path in made.iterdir():
            force_to_disk(path)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():
                raise


@lru_cache(maxsize=1)
def _open_work(folder: Path, written: int) -> Work:
    """The work folder with the plan that was written then, opened once in a process."""
    return Work(folder)
