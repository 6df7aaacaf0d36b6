"""`hzlm pairs`: what is printed, and the exit statuses."""

from pathlib import Path

import pytest

from hzlm import cli
from hzlm.data.dataset import Dataset
from hzlm.vocabulary import Vocabulary


@pytest.fixture
def place(tmp_path: Path, vocabulary: Vocabulary) -> Path:
    """A folder with vocabulary.json, and pairs.tsv of two lines, one of which that vocabulary cannot write."""
    vocabulary.save(tmp_path / "vocabulary.json")
    (tmp_path / "pairs.tsv").write_text("我爱北经\t我爱北京\n门\t们\n", "utf-8")
    return tmp_path


def test_pairs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--vocabulary", str(place), "--output", str(place / "out")]
    arguments = ["pairs", str(place / "pairs.tsv"), *files, "--dev", "0"]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"hzlm: error: {place / 'pairs.tsv'}:2: the vocabulary lacks '们' of the target; ")
    assert not (place / "out").exists()
    assert cli.main([*arguments, "--skip-unknown"]) == 0
    assert "们 (1)" in capsys.readouterr().out
    assert len(Dataset.open(place / "out", "train")) == 1
    assert cli.main(["data", "check", str(place / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{place / 'out'}: whole"


@pytest.mark.parametrize("share", ["1", "-0.1", "nan", "a"])
def test_a_share_that_is_none(place: Path, share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["pairs", "x.tsv", "--vocabulary", "x", "--output", "y", f"--dev={share}"])
    assert caught.value.code == 2
    assert f"{share} is no share" in capsys.readouterr().err
