"""What an evaluation prints, and the folder it leaves behind."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from hzlm.cli import main
from hzlm.decode import converter as converter_module
from hzlm.decode import corrector as corrector_module
from hzlm.errors import UserError
from hzlm.evaluate.breakdown import Tally
from hzlm.evaluate.charts import Chart
from hzlm.evaluate.output import make_folder, write_report
from hzlm.evaluate.plots import draw_chart
from hzlm.evaluate.run import evaluate
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def _model(model: EncoderDecoder, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (converter_module, corrector_module):
        monkeypatch.setattr(module, "load_model", lambda path: (model, vocabulary))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.tsv"
    path.write_text("1\two3 ai4 bei3 jing1\t我爱北京。\n2\tshi4 xing2\t事行\n3\two3\t你\n", "utf-8")
    return path


def test_a_folder_with_everything(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "out"
    assert main(["evaluate", "model", str(data), "--tones", "--output", str(folder)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in folder.iterdir()) == [
        "accuracy_by_homophones.png", "accuracy_by_length.png", "evaluation.json", "evaluation.md",
    ]  # fmt: skip
    stored = json.loads((folder / "evaluation.json").read_text("utf-8"))
    assert stored == json.loads(printed[-1])
    assert stored["data"] == str(data)
    assert stored["total"]["model"]["characters"] == 7
    for system, divisions in stored["breakdowns"].items():
        score = stored["total"]["baseline" if system == "most frequent" else system]
        for classes in divisions.values():
            assert sum(tally["total"] for tally in classes.values()) == 7
            assert sum(tally["right"] for tally in classes.values()) == round(7 * score["char_accuracy"])
    assert stored["breakdowns"]["model"]["kind"]["toned"]["total"] == 7
    assert {"right": "你", "given": "我", "source": "wo3", "count": 1, "share": 1.0} in stored["confusions"]["model"]
    page = (folder / "evaluation.md").read_text("utf-8")
    assert "| 你 | 我 | wo3 | 1 | 100.00% |" in page
    assert "| total | most frequent | 3 |" in page
    assert "| several readings | 1 |" in page  # 行
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert (image.format, image.size) == ("PNG", (840, 480))


def test_a_folder_of_corrections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a random model makes of them, the numbers fit each other."""
    data, folder = tmp_path / "pairs.tsv", tmp_path / "out"
    data.write_text("1\t我爱北星，A\t我爱北京，A\n2\t是中行\t是中行\n", "utf-8")
    assert main(["evaluate", "model", str(data), "--output", str(folder)]) == 0
    stored = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert stored == json.loads((folder / "evaluation.json").read_text("utf-8"))
    assert stored["scores"]["character_detection"]["wrong"] == 1
    assert sum(tally["total"] for tally in stored["breakdown"]["position"].values()) == 9
    mistakes = 9 - sum(tally["right"] for tally in stored["breakdown"]["position"].values())
    assert sum(found["count"] for found in stored["miscorrections"]) == mistakes
    assert sorted(path.name for path in folder.iterdir()) == [
        "corrected_by_errors.png", "corrected_by_length.png", "evaluation.json", "evaluation.md",
    ]  # fmt: skip


def test_tones_are_left_out_unless_asked_for(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "model", str(data)]) == 0
    stored = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert stored["breakdowns"]["model"]["kind"].keys() == {"syllable"}


def test_a_format_may_be_said(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "model", str(data), "--format", "pinyin"]) == 2
    assert "data.tsv:1" in capsys.readouterr().err


def test_options_of_another_format_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pinyin.tsv").write_text("wo\t我\n", "utf-8")
    (tmp_path / "pairs.tsv").write_text("1\t背京\t北京\n", "utf-8")
    assert main(["evaluate", "model", str(tmp_path / "pinyin.tsv"), "--tones"]) == 2
    assert "--tones is for files with readings" in capsys.readouterr().err
    assert main(["evaluate", "model", str(tmp_path / "pairs.tsv"), "--beam", "3"]) == 2
    assert "--beam is for files with pinyin" in capsys.readouterr().err
    assert main(["evaluate", "model", str(tmp_path / "pairs.tsv"), "--fuzzy"]) == 2
    assert "--fuzzy is for files with pinyin" in capsys.readouterr().err


def test_no_folder_no_evaluation(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "model", str(data), "--output", str(data / "out")]) == 2
    assert "data.tsv/out: no folder can be made here" in capsys.readouterr().err
    with pytest.raises(UserError, match="no folder can be made here"):
        make_folder(data)


def test_what_was_found_is_printed_before_anything_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "evaluation.json").mkdir(parents=True)
    assert main(["evaluate", "model", str(data), "--output", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["total"]["model"]["sentences"] == 3
    assert "evaluation.json" in printed.err
    monkeypatch.delitem(sys.modules, "hzlm.evaluate.output")
    monkeypatch.delitem(sys.modules, "hzlm.evaluate.plots")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["evaluate", "model", str(data), "--output", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.out == "", "a missing package is told before the evaluation"
    assert "matplotlib.figure is not installed" in printed.err


def test_sentences_without_anything_to_convert(tmp_path: Path) -> None:
    data = tmp_path / "literal.tsv"
    data.write_text("，\t，\n", "utf-8")
    found = evaluate(Path("model"), data)
    assert not any(found.breakdowns["model"].values())
    write_report(found, tmp_path)
    assert "## Worst homophones" in (tmp_path / "evaluation.md").read_text("utf-8")
    assert (tmp_path / "accuracy_by_length.png").is_file()


def test_bars_are_as_high_as_the_shares(tmp_path: Path) -> None:
    """Of two systems, one is right half as often: its colour covers half the area."""
    systems = {name: {"1": Tally(right, 10), "2": Tally(right, 10)} for name, right in (("first", 8), ("second", 4))}
    draw_chart(Chart("chart", "title", "classes", systems), tmp_path / "chart")
    with Image.open(tmp_path / "chart") as image:
        colours = {colour: n for n, colour in image.convert("RGB").getcolors(1 << 24) or ()}
    assert colours[31, 119, 180] / colours[255, 127, 14] == pytest.approx(2, rel=0.1)
