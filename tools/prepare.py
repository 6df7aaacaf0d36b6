"""`hzlm prepare`: corpora -> a dataset folder, stage by stage."""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hzlm.data.dataset import SPLITS, VOCABULARY_FILE
from hzlm.decode.ngram import NGRAM_FILE
from hzlm.errors import UserError
from hzlm.settings import save_settings
from hzlm.tools.annotation.user_dictionary import read_dictionary
from hzlm.tools.build_vocabulary import read_characters
from hzlm.tools.decontaminate import read_test_file
from hzlm.tools.engines.engine import Engine
from hzlm.tools.readers.files import cut_pieces, find_files, source_name
from hzlm.tools.readers.troubles import Troubles
from hzlm.tools.report import Report
from hzlm.tools.stages.config import PrepareConfig
from hzlm.tools.stages.index import index_files
from hzlm.tools.stages.ngram import ARPA_FILE
from hzlm.tools.stages.run import STAGES, run_stages
from hzlm.tools.stages.work import REPORT_FILE, Work, lock_folder, remove_at_once
from hzlm.vocabulary import Vocabulary

TASK_BYTES = 32 << 20
"""What a task of the reading stage reads, in bytes on disk; a compressed file is never cut."""


def prepare(
    inputs: Sequence[Path], output: Path, config: PrepareConfig, engine: Engine, keep_work: bool = False
) -> Report:
    """Makes a dataset folder (`hzlm.data.dataset`) out of raw text.

    The work is done in stages (`hzlm.tools.stages`) in the folder OUTPUT.work. A preparation that was ended goes on
    there where it was; one with other settings or other inputs does again the stages that depend on them. The result
    depends on inputs and settings alone, not on the engine. The dataset folder appears when it is whole: besides the
    streams it holds dev.tsv and test.tsv (toneless pinyin, the sentence, the file it came from), prepare.yaml (the
    settings), report.json, and with `config.ngram.order` ngram.safetensors.

    Args:
        inputs: files and folders, in any format that `hzlm.tools.readers` reads.
        output: the dataset folder; it must not exist yet, or be empty.
        config: what is to be made.
        engine: what the tasks run on.
        keep_work: whether the work folder stays, so that other settings can be tried on what it holds.

    Raises:
        UserError: an input is missing, nothing is left for training, the vocabulary is damaged, the output exists, or
            another preparation is at work there.
    """
    start = time.monotonic()
    output = output.resolve()
    _check_output(output)
    _check_settings(config)
    folder = work_folder(output)
    troubles = Troubles()
    files = find_files(inputs, troubles, left_out=(output, folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output}: cannot write here: {error.strerror}; choose another output") from error
    with lock_folder(folder):
        _check_output(output)
        engine.clear()
        work = Work.create(folder, _plan(files, config))
        work.renew(list(STAGES.values()))
        is_whole = run_stages(work, engine)
        report = Report.of_work(work, troubles, time.monotonic() - start, is_whole)
        _assemble(work, report, output)
        if not keep_work:
            remove_at_once(folder)
    return report


def _check_output(output: Path) -> None:
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output}: this exists already; remove it or choose another output")


def _check_settings(config: PrepareConfig) -> None:
    """Looks at the files that settings name before hours of work go by."""
    if config.vocabulary.path is not None:
        Vocabulary.load(config.vocabulary.path)
    for path in config.vocabulary.include:
        read_characters(path)
    for path in config.annotation.dictionaries:
        read_dictionary(path)
    for path in config.decontaminate.files:
        read_test_file(path)
    arpa = config.ngram.arpa
    if arpa is not None and (not os.access(arpa.parent, os.W_OK) or (arpa.exists() and not arpa.is_file())):
        raise UserError(f"{arpa}: cannot write this file; name another one for ngram.arpa, in a folder that is there")


def work_folder(output: Path) -> Path:
    """Where the work for a dataset folder is done."""
    return output.with_name(output.name + ".work")


def _plan(files: Sequence[Path], config: PrepareConfig) -> dict[str, Any]:
    """What the tasks have to know. It depends on the files and the settings alone."""
    status = [path.stat() if path.exists() else None for path in files]
    groups: list[list[tuple[str, int, int]]] = []
    room = 0
    for piece in cut_pieces(files, TASK_BYTES):
        if room <= 0:
            groups.append([])
            room = TASK_BYTES
        groups[-1].append((str(piece.path.absolute()), piece.start, piece.end))
        room -= piece.end - piece.start
    return {
        "files": [
            (str(path.absolute()), found and found.st_size, found and found.st_mtime_ns)
            for path, found in zip(files, status, strict=True)
        ],
        "sources": [source_name(path) for path in files],
        "pieces": groups,
        "settings": config.model_dump(mode="json"),
    }


def _assemble(work: Work, report: Report, output: Path) -> None:
    """The dataset folder, out of what the stages made."""
    with tempfile.TemporaryDirectory(prefix=".dataset.", dir=work.folder) as scratch:
        whole = Path(scratch) / output.name
        whole.mkdir()
        made = [
            work.task_folder("index", task) / name for task, split in enumerate(SPLITS) for name in index_files(split)
        ]
        made.append(work.task_folder("vocabulary", 0) / VOCABULARY_FILE)
        settings = work.config.ngram
        if settings.order is not None:
            made.append(work.task_folder("ngram", 0) / NGRAM_FILE)
        for path in made:
            _link(path, whole / path.name)
        save_settings(work.config, whole / "prepare.yaml")
        report.save(whole / REPORT_FILE)
        if settings.arpa is not None:
            shutil.copyfile(work.task_folder("ngram", 0) / ARPA_FILE, settings.arpa)
        whole.rename(output)


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system knows no such."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
