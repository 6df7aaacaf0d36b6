"""Every kind of bad input through the command line: one line that says what, where and what to do; exit status 2."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hzlm import cli
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]
RUN = """\
model: {hidden_size: 16, heads: 2, feed_forward_size: 16, encoder_layers: 1, decoder_layers: 1, max_length: 24}
data: {path: DATA, row_length: 20, views: {pinyin: 1}}
schedule: {scale: 1, warmup_steps: 2}
train: {output: OUTPUT, steps: 1, micro_batch_rows: 2}
"""


@pytest.fixture
def place(tmp_path: Path, write_dataset: Write, sentences: list[str]) -> Path:
    """A folder with a dataset, data, and a config, run.yaml, to train on it."""
    data = write_dataset(tmp_path / "data", sentences)
    (tmp_path / "run.yaml").write_text(RUN.replace("DATA", str(data)).replace("OUTPUT", str(tmp_path / "run")), "utf-8")
    return tmp_path


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the command says, without its prefix; checks the exit status and that it is one line."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("hzlm: error: ")
    assert error.count("\n") == 1, error
    return error.removeprefix("hzlm: error: ").rstrip("\n")


def test_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert complaint(capsys, "prepare", tmp_path / "no.txt", "--output", output).endswith(
        "no.txt: no such file or folder"
    )
    (tmp_path / "empty.txt").write_bytes(b"")
    assert "empty.txt: this file holds no text" in complaint(
        capsys, "prepare", tmp_path / "empty.txt", "--output", output
    )
    (tmp_path / "gbk.txt").write_bytes("好\n".encode() + "中文".encode("gbk"))
    found = complaint(capsys, "prepare", tmp_path / "gbk.txt", "--output", output)
    assert re.search(r"gbk\.txt, line 2: byte 4 \(0xd6\) is no UTF-8 text; convert the file to UTF-8$", found)
    assert not output.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scale: 1", "scal: 1", "schedule.scal: unknown key; did you mean scale?"),
        ("steps: 1,", "steps: many,", 'train.steps = "many": must be a valid integer'),
        ("pinyin: 1", "pinyn: 1", "data.views.pinyn: unknown view; did you mean pinyin?"),
    ],
)
def test_configs(old: str, new: str, message: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "run.yaml"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    assert message in complaint(capsys, "train", path)


def test_overrides(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = complaint(capsys, "train", place / "run.yaml", "train.stepps=3")
    assert found == "override train.stepps=3: train.stepps: unknown key; did you mean steps?"


def test_a_truncated_dataset(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "data" / "train.hanzi.bin"
    path.write_bytes(path.read_bytes()[:-2])
    found = complaint(capsys, "train", place / "run.yaml")
    assert re.search(r"train\.hanzi\.bin: holds \d+ bytes instead of \d+; prepare the dataset again$", found)


def test_vocabularies_that_do_not_fit(place: Path, vocabulary: Vocabulary, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", str(place / "run.yaml")]) == 0
    other = Vocabulary((*vocabulary.characters, "新"), vocabulary.readings)
    other.save(place / "data" / "vocabulary.json")
    found = complaint(capsys, "train", place / "run.yaml", "train.steps=2")
    assert found.endswith("vocabulary.json: not the vocabulary that this dataset was made with")
    other.save(next((place / "run" / "checkpoints").glob("step_*")) / "vocabulary.json")
    found = complaint(capsys, "convert", place / "run", "wo ai")
    assert "vocabulary.json: this vocabulary does not fit the checkpoint beside it; put back" in found


def test_pinyin(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", str(place / "run.yaml")]) == 0
    run = place / "run"
    found = complaint(capsys, "convert", run, "wo ia")
    assert found.startswith('the text, piece 2: "ia" is no pinyin syllable; the nearest one is ai')
    assert complaint(capsys, "convert", run, "wo 爱").startswith(
        "the text, piece 2: pinyin is expected, not the hanzi 爱"
    )
    assert "no hanzi that is read zuo" in complaint(capsys, "convert", run, "zuo")
    (place / "test.tsv").write_text("wo ai\t我爱\nwo\t我爱\n", "utf-8")
    assert re.search(
        r"test\.tsv:2: pinyin of 1 characters, but hanzi of 2", complaint(capsys, "evaluate", run, place / "test.tsv")
    )
