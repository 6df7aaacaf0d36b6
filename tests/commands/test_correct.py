"""`hzlm correct` and `hzlm convert --context` from the command line."""

import io
import sys

import pytest

from hzlm import cli
from hzlm.decode import converter, corrector
from hzlm.decode.calibration import Caution
from hzlm.decode.corrector import Corrector
from hzlm.decode.scorers import ModelScorer
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary


@pytest.fixture
def bold(model: EncoderDecoder, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> Corrector:
    """What the command loads: it changes whatever the random model finds unlikely."""
    for module in (converter, corrector):
        monkeypatch.setattr(module, "load_model", lambda path: (model, vocabulary))
        monkeypatch.setattr(module, "ModelScorer", lambda model, quick: ModelScorer(model))
    monkeypatch.setattr(Caution, "load", classmethod(lambda cls, run: cls(0.0, 0.0)))
    return Corrector(model, vocabulary, Caution(0.0, 0.0))


def type_in(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_text(bold: Corrector, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["correct", "model", "我爱北中"]) == 0
    found = bold.correct("我爱北中")
    assert found.changes
    assert capsys.readouterr().out == f"{found.text}\n"


def test_lines(bold: Corrector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli.correct, "LINES_AT_ONCE", 2)
    lines = ["我爱北中", "", "☃ 银行", " ", "是中"]
    content = "\ufeff" + "\r\n".join(lines)
    type_in(monkeypatch, content.encode())
    assert cli.main(["correct", "model"]) == 0
    found = [bold.correct(line) for line in lines]
    assert capsys.readouterr().out == "".join(f"{correction.text}\n" for correction in found)

    type_in(monkeypatch, content.encode())
    assert cli.main(["correct", "model", "--changes"]) == 0
    changes = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    expected = [(n, change) for n, correction in enumerate(found, start=1) for change in correction.changes]
    assert [row[:4] for row in changes] == [[str(n), str(c.position + 1), c.wrong, c.right] for n, c in expected]
    assert [float(row[4]) for row in changes] == pytest.approx([c.gain for _, c in expected], abs=0.006)


@pytest.mark.usefixtures("bold")
def test_what_is_no_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["correct", "model", "我\udcff"]) == 2
    assert capsys.readouterr().err == "hzlm: error: the text: no UTF-8 text; convert it to UTF-8 first\n"
    type_in(monkeypatch, b"a\n\xce\xd2\n")
    assert cli.main(["correct", "model"]) == 2
    assert "standard input, line 2: no UTF-8 text" in capsys.readouterr().err


@pytest.mark.usefixtures("bold")
def test_a_context_counts_for_the_score_alone(capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for context in ([], ["--context", "银行。我"]):
        assert cli.main(["convert", "model", "shi4 xing2 ，", "--n-best", "6", *context]) == 0
        shown.append([line.split("\t") for line in capsys.readouterr().out.splitlines()])
    assert (
        {row[1] for row in shown[0]} == {row[1] for row in shown[1]} == {f"{a}{b}，" for a in "是事市" for b in "行形"}
    )
    assert sorted(row[2] for row in shown[0]) != sorted(row[2] for row in shown[1])
