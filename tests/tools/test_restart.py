"""Preparations that end early, start again, or meet each other."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from safetensors import safe_open

from hzlm import cli
from hzlm.data.dataset import SPLITS
from hzlm.errors import UserError
from hzlm.tools.engines.local import LocalEngine
from hzlm.tools.prepare import prepare
from hzlm.tools.stages import read as read_stage
from hzlm.tools.stages.config import PrepareConfig, load_prepare_config
from hzlm.tools.stages.run import STAGES
from hzlm.tools.stages.work import lock_folder
from inline import InlineEngine

PLACES = [f"{street}{kind}{number}号" for street in "东南西北" for kind in ("路", "街") for number in range(1, 30)]


def config(*overrides: str) -> PrepareConfig:
    return load_prepare_config(None, ["vocabulary.gb2312=false", *overrides])


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four files, with sentences in common, in chunks of about two hundred characters."""
    monkeypatch.setattr(read_stage, "CHUNK_CHARACTERS", 200)
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(4):
        paragraphs = [f"我在{place}等你。你在{place}等他吗？\n后来他走了。" for place in PLACES[number * 25 :][:30]]
        (folder / f"part{number}.txt").write_text("\n\n".join(paragraphs), "utf-8")
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    """All that two equal preparations have in common: every file but for the times in the report."""
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    report = json.loads(content["report.json"])
    report["seconds"] = None
    for stage in report["stages"].values():
        stage["seconds"] = stage["peak_memory_mb"] = None
    if "ngram.safetensors" in content:
        # The library writes the metadata in any order; among it is the checksum of all the rest.
        with safe_open(folder / "ngram.safetensors", framework="np") as file:
            content["ngram.safetensors"] = file.metadata()["sha256"].encode()
    return {**content, "report.json": json.dumps(report).encode()}


class DyingEngine(InlineEngine):
    """Ends after so many tasks, as a machine that loses its power does."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self._left = tasks

    def run(
        self,
        name: str,
        task: Callable[[int], None],
        pending: Sequence[int],
        done: Callable[[int], bool],
        advance: Callable[[], None],
    ) -> None:
        """Runs what is pending, until the end."""

        def counted(number: int) -> None:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            task(number)

        super().run(name, counted, pending, done, advance)


def test_the_result_depends_neither_on_the_order_of_tasks_nor_on_processes(corpus: Path, tmp_path: Path) -> None:
    engine = InlineEngine()
    prepare([corpus], tmp_path / "a", config(), engine)
    assert {name for name, _ in engine.ran} == set(STAGES) - {"ngram"}
    assert len([name for name, _ in engine.ran if name == "annotate"]) > 10, "or order means little"
    prepare([corpus], tmp_path / "b", config(), InlineEngine(reverse=True))
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")


def test_processes_make_what_one_process_makes(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # other processes know nothing of smaller chunks
    for workers in (1, 3):
        prepare([corpus], tmp_path / str(workers), config(), LocalEngine(workers))
    prepare([corpus], tmp_path / "inline", config(), InlineEngine())
    assert content_of(tmp_path / "1") == content_of(tmp_path / "3") == content_of(tmp_path / "inline")


@pytest.mark.parametrize("tasks", [0, 1, 3, 15, 35])
def test_what_was_done_before_the_end_is_not_done_again(corpus: Path, tmp_path: Path, tasks: int) -> None:
    whole = InlineEngine()
    prepare([corpus], tmp_path / "whole", config(), whole)
    first, second = DyingEngine(tasks), InlineEngine()
    with pytest.raises(KeyboardInterrupt):
        prepare([corpus], tmp_path / "out", config(), first)
    assert not (tmp_path / "out").exists()
    prepare([corpus], tmp_path / "out", config(), second)
    assert first.ran + second.ran == whole.ran
    assert content_of(tmp_path / "out") == content_of(tmp_path / "whole")
    assert not (tmp_path / "out.work").exists()


@pytest.mark.parametrize(
    ("override", "first_redone"),
    [
        ("vocabulary.coverage=0.9", "vocabulary"),
        ("split.by=document", "sentences"),
        ("duplicates.near=false", "read"),
        ("ngram.order=2", "ngram"),
    ],
)
def test_other_settings_redo_the_stages_that_depend_on_them(
    corpus: Path, tmp_path: Path, override: str, first_redone: str
) -> None:
    prepare([corpus], tmp_path / "first", config(), InlineEngine(), keep_work=True)
    (tmp_path / "first.work").rename(tmp_path / "out.work")
    engine = InlineEngine()
    prepare([corpus], tmp_path / "out", config(override), engine)
    assert engine.ran[0] == (first_redone, 0)
    fresh = InlineEngine()
    prepare([corpus], tmp_path / "fresh", config(override), fresh)
    assert content_of(tmp_path / "out") == content_of(tmp_path / "fresh")
    assert engine.ran == fresh.ran[fresh.ran.index((first_redone, 0)) :]


def test_other_text_and_other_lists_are_noticed(corpus: Path, tmp_path: Path) -> None:
    include = tmp_path / "include.txt"
    include.write_text("龘", "utf-8")
    settings = config(f"vocabulary.include=[{include}]")
    prepare([corpus], tmp_path / "out", settings, InlineEngine(), keep_work=True)
    (tmp_path / "out").rename(tmp_path / "before")
    include.write_text("龘靐", "utf-8")
    engine = InlineEngine()
    prepare([corpus], tmp_path / "out", settings, engine, keep_work=True)
    assert engine.ran[0] == ("vocabulary", 0)
    (tmp_path / "out").rename(tmp_path / "between")
    (corpus / "part0.txt").write_text("今天天气很好。明天呢？", "utf-8")
    engine = InlineEngine()
    prepare([corpus], tmp_path / "out", settings, engine)
    assert engine.ran[0] == ("read", 0)


def test_two_preparations_of_one_output(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out.work").mkdir()
    with (
        lock_folder(tmp_path / "out.work"),
        pytest.raises(UserError, match=r"out\.work: another preparation is at work here; wait for it"),
    ):
        prepare([corpus], tmp_path / "out", config(), InlineEngine())
    prepare([corpus], tmp_path / "out", config(), InlineEngine())


def test_an_output_that_is_there_is_not_touched(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(UserError, match="out: this exists already; remove it or choose another"):
        prepare([corpus], tmp_path / "out", config(), InlineEngine())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "out" / "mine.txt").unlink()
    prepare([corpus], tmp_path / "out", config(), InlineEngine())
    assert all((tmp_path / "out" / f"{split}.json").is_file() for split in SPLITS)


def test_an_output_that_cannot_be_made(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write here"):
        prepare([corpus], corpus / "part0.txt" / "out", config(), InlineEngine())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vocabulary.coverage=0.0"], "vocabulary.coverage"),
        (["vocabulary.coverage=1.01"], "vocabulary.coverage"),
        (["sentences.max_length=0"], "sentences.max_length"),
        (["sentences.unit=word"], "sentences.unit"),
        (["sentences.units=word"], "sentences.units: unknown key; did you mean unit?"),
        (["ngram.order=10"], "ngram.order"),
        (["ngram.order=3", "ngram.megabytes=0.0"], "ngram.megabytes"),
        (["ngram.arpa=a.arpa"], "ngram.arpa asks for a file of an n-gram model; give ngram.order too"),
        (["split.dev=0.5", "split.test=0.5"], "nothing is left for training"),
        (["split.dev=0.1", "--workers=2", "--on=slurm"], "give slurm.jobs and slurm.cpus instead"),
        (["vocabulary.path=none.json"], "none.json"),
        (["vocabulary.include=[none.txt]"], "none.txt"),
        (["annotation.dictionaries=[none.txt]"], "none.txt"),
        (["decontaminate.files=[none.tsv]"], "none.tsv"),
        (["ngram.order=3", "ngram.arpa=none/model.arpa"], "model.arpa: cannot write this file"),
    ],
)
def test_wrong_values(
    corpus: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["prepare", str(corpus), "--output", str(tmp_path / "out"), "--set", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("hzlm: error: ")
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"], "before any work is done"
