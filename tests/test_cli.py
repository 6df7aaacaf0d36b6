"""The command line: help, exit statuses, and what comes out for what goes in."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hzlm import cli
from hzlm.commands import train
from hzlm.config import ModelConfig, load_config
from hzlm.decode import converter as converter_module
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary

READINGS = {"我": {"wo3": 9}, "爱": {"ai4": 5}, "北": {"bei3": 4}, "京": {"jing1": 3}}
SHAPE = ModelConfig(hidden_size=16, heads=2, feed_forward_size=32, encoder_layers=1, decoder_layers=1, max_length=12)


@pytest.fixture
def _model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`convert` finds a model that knows one hanzi for each of four syllables."""
    vocabulary = Vocabulary(tuple(READINGS), READINGS)
    model = EncoderDecoder(SHAPE, vocabulary.size, vocabulary.target_start).initialize(1)
    monkeypatch.setattr(converter_module, "load_model", lambda path: (model, vocabulary))


def type_in(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_examples_that_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    examples = [line.strip() for line in text.splitlines() if line.startswith(f"  hzlm {command}")]
    assert examples
    for example in examples:
        words = example.partition(" <")[0].replace('"', "").split()
        if command == "convert" and "wo" in example:
            words = [*words[:3], "wo", *(word for word in words[3:] if word.startswith("--") or word.isdigit())]
        assert callable(cli._parser().parse_args(words[1:]).handler)


def test_the_run_that_the_help_shows_is_whole(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(train.RUN_EXAMPLE, "utf-8")
    overrides = ["model.size=tiny", "train.output=runs/tiny"]
    assert load_config(tmp_path / "run.yaml", overrides).train.output == Path("runs/tiny")


def test_the_installed_command_is_quick_since_it_imports_little() -> None:
    command = Path(sys.executable).with_name("hzlm")
    text = subprocess.run([command, "--help"], capture_output=True, text=True).stdout
    assert all(name in text for name in cli.COMMANDS)
    program = "import sys; from hzlm import cli; cli._parser(); print(bool({'torch', 'pydantic'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["improve"],
        ["convert"],
        ["convert", "model", "wo", "--n-best", "0"],
        ["convert", "model", "wo", "--beam", "many"],
        ["prepare", "a.txt"],
        ["prepare", "a.txt", "--output", "b", "--workers", "0"],
        ["prepare", "a.txt", "--output", "b", "--on", "moon"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.usefixtures("_model")
def test_convert_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["convert", "model", "wo ai bei jing!"]) == 0
    assert capsys.readouterr().out == "我爱北京!\n"


@pytest.mark.usefixtures("_model")
def test_convert_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    type_in(monkeypatch, "\ufeffwo ai\n\n  \nbei jing，2\r\nwo".encode())
    assert cli.main(["convert", "model"]) == 0
    assert capsys.readouterr().out == "我爱\n\n\n北京，2\n我\n"


@pytest.mark.usefixtures("_model")
def test_convert_more_lines_than_a_block(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli.convert, "LINES_AT_ONCE", 3)
    type_in(monkeypatch, b"wo wo\nai\nbei jing wo\n\nwo\nai ai\nbei\n")
    assert cli.main(["convert", "model"]) == 0
    assert capsys.readouterr().out == "我我\n爱\n北京我\n\n我\n爱爱\n北\n"


@pytest.mark.usefixtures("_model")
def test_convert_candidates(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    type_in(monkeypatch, b"wo ai\n\n3\n")
    assert cli.main(["convert", "model", "--n-best", "2"]) == 0
    first, blank, second = capsys.readouterr().out.splitlines()
    rank, text, log_probability = first.split("\t")
    assert (rank, text) == ("1", "我爱")
    assert float(log_probability) < 0
    assert blank == ""
    assert second == "1\t3\t0.0000"


@pytest.mark.usefixtures("_model")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"wo\n\nwo ia\n", 'standard input, line 3, piece 2: "ia" is no pinyin syllable; the nearest one is ai'),
        ("wo\n我\n".encode(), "standard input, line 2, piece 1: pinyin is expected, not the hanzi 我"),
        (b"wo\n\xce\xd2\n", "standard input, line 2: no UTF-8 text"),
        (b"wo " * 13, "standard input, line 1: 13 characters, but this model takes 12 at most"),
    ],
)
def test_a_bad_line(
    content: bytes, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(monkeypatch, content)
    assert cli.main(["convert", "model"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"hzlm: error: {message}")
    assert error.count("\n") == 1


@pytest.mark.usefixtures("_model")
def test_a_bad_text_and_more_candidates_than_the_beam(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["convert", "model", "wo xx"]) == 2
    assert 'the text, piece 2: "xx" is no pinyin syllable' in capsys.readouterr().err
    assert cli.main(["convert", "model", "wo", "--n-best", "3", "--beam", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1, "one hanzi is read wo, so there is one candidate"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "{}/none", "wo"], "none"),
        (["evaluate", "{}/none", "{}/none.tsv"], "none"),
        (["train", "{}/none.yaml"], "none.yaml: no such file"),
        (["prepare", "{}/none.txt", "--output", "{}/data"], "none.txt"),
    ],
)
def test_a_missing_file(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([argument.format(tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("hzlm: error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("problem", "status", "message"),
    [
        (UserError("a.txt: empty; give text"), 2, "hzlm: error: a.txt: empty; give text\n"),
        (KeyboardInterrupt(), 130, "hzlm: error: interrupted\n"),
        (
            ModuleNotFoundError("No module named 'pypinyin'", name="pypinyin"),
            1,
            'hzlm: error: pypinyin is not installed, which this command needs; run: pip install "hzlm[data]"\n',
        ),
        (
            ModuleNotFoundError("No module named 'deepspeed.ops'", name="deepspeed.ops"),
            1,
            'hzlm: error: deepspeed.ops is not installed, which this command needs; run: pip install "hzlm[train]"\n',
        ),
    ],
)
def test_exit_statuses(
    problem: BaseException,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(options: Any) -> None:
        raise problem

    monkeypatch.setattr(cli.demo, "run", fail)
    assert cli.main(["demo"]) == status
    assert capsys.readouterr().err == message


def test_our_own_missing_module_is_no_matter_of_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: Any) -> None:
        raise ModuleNotFoundError("No module named 'hzlm.nothing'", name="hzlm.nothing")

    monkeypatch.setattr(cli.demo, "run", fail)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["demo"])


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    endless = "cli.demo.run = lambda options: print('x\\n' * 10**6)"
    program = f"import sys; from hzlm import cli; {endless}; sys.exit(cli.main(['demo']))"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
