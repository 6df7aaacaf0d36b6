"""What is wrong around a preparation: odd files, a full disk, and work that is out of date."""

import errno
import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hzlm.data.dataset import SPLITS, Dataset
from hzlm.data.marks import MARK_FOLLOWS
from hzlm.errors import UserError
from hzlm.tools.prepare import prepare, work_folder
from hzlm.tools.report import KILLED
from hzlm.tools.stages.config import load_prepare_config
from hzlm.tools.stages.run import run_task
from hzlm.tools.stages.sentences import sentence_key
from hzlm.tools.stages.work import Work, lock_folder, read_key, remove_at_once
from inline import InlineEngine

SETTINGS = ("vocabulary.gb2312=false", "vocabulary.coverage=1.0", "split.dev=0.0", "split.test=0.0")
CONFIG = load_prepare_config(None, SETTINGS)


def write(folder: Path, text: str = "今天天气很好。我们去公园散步。") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "text.txt").write_text(text, "utf-8")
    return folder


def test_what_follows_a_sentence_that_cannot_be_read_does_not_follow(tmp_path: Path) -> None:
    corpus = write(tmp_path / "in", "今天天气很好。这里有个兡字。我们去散步。他也来了。\n\n兙是第一个。后来下雨了。")
    report = prepare([corpus], tmp_path / "out", CONFIG, InlineEngine())
    assert report.stages["annotate"].dropped["a hanzi has no reading"].items == 2
    train = Dataset.open(tmp_path / "out", "train")
    follows = [bool(train.record(i).marks[0] & MARK_FOLLOWS) for i in range(len(train))]
    assert follows == [False, False, True, False]
    assert train.documents.tolist() == [0, 3, 4]


def test_punctuation_does_not_carry_a_sentence_from_one_split_to_another(tmp_path: Path) -> None:
    corpus = write(tmp_path / "in", "你吃饭了吗？他说三点来。\n\n你吃饭了吗！他说，三点来。你吃饭了。")
    prepare([corpus], tmp_path / "out", CONFIG, InlineEngine())
    train = Dataset.open(tmp_path / "out", "train")
    texts = [train.vocabulary.decode(train.record(i).hanzi) for i in range(len(train))]
    assert texts == ["你吃饭了吗？", "他说三点来。", "你吃饭了。"]
    assert sentence_key("第3页。") != sentence_key("第4页。")


def test_links_to_nowhere_are_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    corpus = write(tmp_path / "in")
    (corpus / "dangling.txt").symlink_to(tmp_path / "nowhere")
    (corpus / "loop.txt").symlink_to(corpus / "loop.txt")
    report = prepare([corpus], tmp_path / "out", CONFIG, InlineEngine())
    assert report.kept["train"].items == 2
    assert sum(report.troubles.counts.values()) == 2
    assert "dangling.txt" in str(report)


def test_an_output_inside_the_input_is_not_read_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write(tmp_path / "in")
    monkeypatch.chdir(corpus)
    first = InlineEngine()
    prepare([Path()], Path("data"), CONFIG, first, keep_work=True)
    shutil.rmtree("data")
    again = InlineEngine()
    report = prepare([Path()], Path("data"), CONFIG, again)
    assert first.ran
    assert again.ran == []
    assert report.files == {str(corpus / "text.txt"): 15}
    assert "after a restart" in str(report)


def test_the_folder_where_one_stands_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write(tmp_path / "in")
    monkeypatch.chdir(corpus)
    with pytest.raises(UserError, match="this exists already"):
        prepare([corpus], Path(), CONFIG, InlineEngine())
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    prepare([corpus], tmp_path / "link", CONFIG, InlineEngine())
    assert all((tmp_path / "empty" / f"{split}.json").is_file() for split in SPLITS)


def test_a_task_of_a_run_that_is_out_of_date_leaves_nothing(tmp_path: Path) -> None:
    """As of a Slurm job whose program was killed and started again with other settings."""
    corpus = write(tmp_path / "in")
    output = tmp_path / "out"
    prepare([corpus], output, CONFIG, InlineEngine(), keep_work=True)
    work = work_folder(output)
    late = partial(run_task, work, "annotate", read_key(work, "annotate"))
    shutil.rmtree(output)
    other = load_prepare_config(None, [*SETTINGS, "sentences.max_length=7"])
    prepare([corpus], output, other, InlineEngine(), keep_work=True)
    remove_at_once(work / "annotate" / "00000")
    with pytest.raises(UserError, match="now belongs to another preparation"):
        late(0)
    assert [path.name for path in (work / "annotate").iterdir()] == ["key"]


def test_a_folder_is_whole_or_gone_whenever_its_removal_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "work")
    monkeypatch.setattr(shutil, "rmtree", lambda *arguments, **named: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        remove_at_once(folder)
    assert not folder.exists()
    monkeypatch.undo()
    remove_at_once(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_removal_that_fails_is_no_reason_to_take_old_work_for_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = write(tmp_path / "in")
    prepare([corpus], tmp_path / "out", CONFIG, InlineEngine(), keep_work=True)
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(Path, "rename", lambda *arguments: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    with pytest.raises(PermissionError):
        prepare([corpus], tmp_path / "out", load_prepare_config(None, ["sentences.unit=clause"]), InlineEngine())
    monkeypatch.undo()
    engine = InlineEngine()
    prepare([corpus], tmp_path / "out", load_prepare_config(None, [*SETTINGS, "sentences.unit=clause"]), engine)
    assert engine.ran[0] == ("sentences", 0)


def test_a_lock_in_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "work")
    monkeypatch.setattr("fcntl.flock", lambda *arguments: remove_at_once(folder))
    with pytest.raises(UserError, match="another preparation has just ended here"), lock_folder(folder):
        pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1600k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_what_was_done_stays(small_disk: Path, tmp_path: Path) -> None:
    generator = random.Random(1)
    hanzi = "天地人你我他上中下大小山水火风云日月星辰"
    text = "。\n\n".join("".join(generator.choices(hanzi, k=30)) for _ in range(4000))
    corpus = write(tmp_path / "in", text)
    output = small_disk / "out"
    with pytest.raises(OSError, match="no space left on device; what is done stays: make room") as caught:
        prepare([corpus], output, CONFIG, InlineEngine())
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(work_folder(output))
    assert not output.exists()
    done = [path for path in work_folder(output).glob("*/[0-9]*") if path.is_dir()]
    assert done
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    engine = InlineEngine()
    report = prepare([corpus], output, CONFIG, engine)
    assert ("read", 0) not in engine.ran
    assert report.kept["train"].items > 3000
    assert os.listdir(small_disk) == ["out"]


def test_the_plan_that_is_written_is_the_plan_that_is_read(tmp_path: Path) -> None:
    corpus = write(tmp_path / "in")
    prepare([corpus], tmp_path / "out", CONFIG, InlineEngine(), keep_work=True)
    work = Work(work_folder(tmp_path / "out"))
    assert work.config == CONFIG
    assert json.loads((work.folder / "plan.json").read_text("utf-8"))["files"][0][0] == str(corpus / "text.txt")


class KilledOnce(InlineEngine):
    """Leaves what a process leaves that is killed at the first task of a stage, and does it then."""

    def run(self, name: str, task: Any, pending: Sequence[int], done: Any, advance: Any) -> None:
        if name == "annotate":
            target = Work(task.args[0]).task_folder(name, 0)
            target.parent.mkdir(parents=True, exist_ok=True)
            (target.parent / f".{target.name}.killed").mkdir()
        super().run(name, task, pending, done, advance)


def test_the_report_counts_killed_processes(tmp_path: Path) -> None:
    report = prepare([write(tmp_path / "in")], tmp_path / "out", CONFIG, KilledOnce())
    assert report.troubles.counts == {KILLED: 1}
    assert report.troubles.places[KILLED] == ["stage annotate"]
    assert "process killed before its task was done" in str(report)
    assert prepare([tmp_path / "in"], tmp_path / "other", CONFIG, InlineEngine()).troubles.counts == {}
