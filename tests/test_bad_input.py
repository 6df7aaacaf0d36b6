"""Every kind of bad input through the command line: one line that says what, where and what to do; exit status 2."""

import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damage import damaged
from hzlm import cli
from hzlm.config import ModelConfig
from hzlm.decode import converter
from hzlm.evaluate.run import evaluate
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.tools.prepare import prepare
from hzlm.tools.stages.config import load_prepare_config
from hzlm.vocabulary import Vocabulary
from inline import InlineEngine

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
    *progress, last = error.splitlines()
    assert all(" elapsed" in line or line.startswith("training ") for line in progress), error
    assert last.startswith("hzlm: error: ")
    return last.removeprefix("hzlm: error: ")


def test_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert complaint(capsys, "prepare", tmp_path / "no.txt", "--output", output).endswith(
        "no.txt: no such file or folder"
    )
    for name, content, cause in (
        ("empty.txt", b"", "empty.txt"),
        ("latin.txt", b"no hanzi here", "13 characters: too few hanzi"),
        ("noise.txt", bytes(range(128, 256)) * 50, "noise.txt"),
    ):
        (tmp_path / name).write_bytes(content)
        found = complaint(capsys, "prepare", tmp_path / name, "--output", output, "--workers", 1)
        assert found.startswith("no sentence is left for training; add text (")
        assert cause in found
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
    assert re.search(r"train\.hanzi\.bin: holds \d+ bytes instead of \d+: damaged; prepare the dataset again$", found)


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


@pytest.fixture
def _model(monkeypatch: pytest.MonkeyPatch, model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    """`convert` and `evaluate` find a model without training one."""
    monkeypatch.setattr(converter, "load_model", lambda path: (model, vocabulary))


TYPED = "wo3 ai bei'jing，lit:GDP\n\nyin hang2 2008\n".encode()
CHARACTERS = st.sampled_from("woaibejng1325 '，:\t\r\x00\u2028\u0301我") | st.characters(exclude_categories=["Cs"])
LINES = st.lists(st.text(CHARACTERS, max_size=12))


@pytest.mark.usefixtures("_model")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged(TYPED) | LINES.map(lambda lines: "\n".join(lines).encode()))
def test_any_standard_input_is_converted_or_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    status = cli.main(["convert", "model"])
    output, error = capsys.readouterr()
    if status == 0:
        assert output.count("\n") == content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    else:
        assert status == 2
        # a busy machine may put a line of progress before it
        assert re.fullmatch(r"hzlm: error: standard input, line \d+.*", error.splitlines()[-1])


@pytest.mark.usefixtures("_model")
def test_arguments_that_are_no_text_and_endless_syllables(capsys: pytest.CaptureFixture[str]) -> None:
    """A byte that is no UTF-8 reaches the program as half a surrogate pair."""
    assert complaint(capsys, "convert", "model", "wo \udcff") == "the text: no UTF-8 text; convert it to UTF-8 first"
    found = complaint(capsys, "convert", "model", "wo " + "x" * 1_000_000)
    assert found.endswith("is 1000000 letters in a row; part the syllables by blanks")
    assert len(found) < 200


@pytest.mark.usefixtures("_model")
def test_an_output_that_cannot_hold_hanzi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert cli.main(["convert", "model", "wo"]) == 1
    assert capsys.readouterr().err == "hzlm: error: '我' is not in ascii; set PYTHONIOENCODING=utf-8\n"


def test_every_message_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two\nlines.yaml").write_text("model: 3", "utf-8")
    assert "two lines.yaml: " in complaint(capsys, "train", tmp_path / "two\nlines.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "{}", "--output", "{}/out"],
        ["prepare", "{}/a.txt", "--output", "{}/out", "--set", "vocabulary.path={}"],
        ["train", "{}"],
        ["evaluate", "model", "{}"],
        ["convert", "{}", "wo"],
        ["status", "{}"],
    ],
)
def test_a_folder_where_a_file_is_expected(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] == "evaluate":
        monkeypatch.setattr(converter.Converter, "load", lambda path, fuzzy: None)
    assert str(tmp_path) in complaint(capsys, *(argument.format(tmp_path) for argument in arguments))


def test_names_of_files_that_are_no_text_or_hold_tabs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_config: ModelConfig
) -> None:
    """They come back in the report, and as a column of test.tsv that `hzlm evaluate` can read."""
    numbers = "零一二三四五六七八九"
    places = [f"{street}路{tens}十{ones}号" for street in "东南西北" for tens in numbers for ones in numbers]
    names = [tmp_path / "a\tb\nc.txt", tmp_path / "\udcff.txt"]
    for number, path in enumerate(names):
        path.write_text("\n".join(f"我在{place}等你。" for place in places[number::2]), "utf-8")
    prepare(names, tmp_path / "out", load_prepare_config(None, ["input.document=line"]), InlineEngine())
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert list(report["files"]) == [str(path) for path in names]
    vocabulary = Vocabulary.load(tmp_path / "out" / "vocabulary.json")
    model = EncoderDecoder(model_config, vocabulary.size, vocabulary.target_start).initialize(1)
    monkeypatch.setattr(converter, "load_model", lambda path: (model, vocabulary))
    assert evaluate(Path("model"), tmp_path / "out" / "test.tsv").sources.keys() == {"a b c", "\ufffd"}
