"""`hzlm data`: what is printed, where it goes, and the exit statuses."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hzlm import cli
from hzlm.data.dataset import Dataset


@pytest.fixture
def folder(tmp_path: Path, write_dataset: Callable[[Path, Sequence[str]], Path], sentences: list[str]) -> Path:
    """A dataset of one document of sixty sentences a split."""
    return write_dataset(tmp_path / "data", sentences)


def test_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "inspect", str(folder), "--row-length", "32"]) == 0
    shown = capsys.readouterr().out
    assert "rows of 32 positions" in shown
    assert "vocabulary 16 targets" in shown


def test_check_shows_ten_records_of_a_whole_dataset(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "check", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("train ") for line in lines) == 10
    assert lines[-1] == f"{folder}: whole"


def test_check_names_each_fault_and_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dev.hanzi.bin").unlink()
    (folder / "test.marks.bin").write_bytes(b"")
    assert cli.main(["data", "check", str(folder)]) == 2
    output = capsys.readouterr()
    faults = [line for line in output.out.splitlines() if line.startswith("fault: ")]
    assert len(faults) == len(output.out.splitlines())
    assert any("dev.hanzi.bin" in fault for fault in faults)
    assert any("test.marks.bin" in fault for fault in faults)
    assert output.err.splitlines()[-1].startswith(f"hzlm: error: {folder}: {len(faults)} fault(s), named above")


def test_merge_and_split(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    assert cli.main(["data", "merge", str(folder), str(other), "--output", str(tmp_path / "all")]) == 0
    assert "120" in capsys.readouterr().out
    assert len(Dataset.open(tmp_path / "all", "train")) == 120
    parts = ["data", "split", str(tmp_path / "all"), "--parts", "2", "--output", str(tmp_path / "parts")]
    assert cli.main(parts) == 0
    names = capsys.readouterr().out.splitlines()
    assert names == [str(tmp_path / "parts" / f"part-{part}") for part in range(2)]
    assert [len(Dataset.open(Path(name), "train")) for name in names] == [60, 60]
    assert cli.main(parts) == 2
    assert "parts: this exists already" in capsys.readouterr().err


def test_export(folder: Path, tmp_path: Path, sentences: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "export", str(folder), "--to", "jsonl", "--split", "dev"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == sentences
    output = tmp_path / "dev.jsonl"
    assert cli.main(["data", "export", str(folder), "--to", "jsonl", "--split", "dev", "--output", str(output)]) == 0
    assert output.read_text("utf-8").splitlines() == lines


@pytest.mark.parametrize("name", ["", "nowhere/x.jsonl"])
def test_an_output_that_cannot_be_is_one_line(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert cli.main(["data", "export", str(folder), "--to", "jsonl", "--output", name]) == 2
    assert capsys.readouterr().err.startswith(f"hzlm: error: {Path(name)}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["data"],
        ["data", "improve", "x"],
        ["data", "inspect", "x", "--row-length", "0"],
        ["data", "merge", "x"],
        ["data", "split", "x", "--output", "y"],
        ["data", "export", "x", "--to", "csv"],
        ["data", "export", "x", "--to", "jsonl", "--split", "all"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("action", ["inspect", "check", "merge", "split", "export"])
def test_a_missing_dataset(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {
        "merge": ["--output", str(tmp_path / "all")],
        "split": ["--output", str(tmp_path / "parts"), "--parts", "2"],
        "export": ["--to", "jsonl"],
    }
    assert cli.main(["data", action, str(tmp_path / "none"), *more.get(action, [])]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"hzlm: error: {tmp_path / 'none'}")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
