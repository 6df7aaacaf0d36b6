"""Calibration of a corrector with random weights, against corrections with each of the settings."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damage import answer_of, damaged
from hzlm import cli
from hzlm.decode import corrector as corrector_module
from hzlm.decode.calibration import Caution, save_calibration
from hzlm.decode.corrector import Corrector
from hzlm.decode.scorers import ModelScorer
from hzlm.errors import UserError
from hzlm.evaluate import calibrate as calibrate_module
from hzlm.evaluate.calibrate import calibrate
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary

BIASES, THRESHOLDS = (0.0, 2.0), (0.0, 1.0, 3.0)
CLEAN = ["我爱北京", "银行，中", "是", "我是行"]
WRONG = [("我爱北中", "我爱北京"), ("事我", "是我"), ("十形，", "十星，")]


@pytest.fixture
def run(vocabulary: Vocabulary, model: EncoderDecoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose checkpoint is stood in for; few settings, and the weights as they are."""
    monkeypatch.setattr(corrector_module, "ModelScorer", lambda model, quick: ModelScorer(model))
    monkeypatch.setattr(calibrate_module, "BIASES", BIASES)
    monkeypatch.setattr(calibrate_module, "THRESHOLDS", THRESHOLDS)
    for module in (corrector_module, calibrate_module):
        monkeypatch.setattr(module, "load_model", lambda path: (model, vocabulary))
    (tmp_path / "run" / "checkpoints" / "step_00000007").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "latest").write_text("step_00000007\n", "utf-8")
    return tmp_path / "run"


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "pairs.tsv"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


@pytest.mark.parametrize("ids", [False, True])
def test_each_trial_is_what_its_settings_do(
    run: Path, model: EncoderDecoder, vocabulary: Vocabulary, ids: bool
) -> None:
    """The random model finds something likelier nearly everywhere, so that settings differ."""
    lines = [*(f"{text}\t{text}" for text in CLEAN), *("\t".join(pair) for pair in WRONG)]
    found = calibrate(run, write(run, [f"{n}\t{line}" if ids else line for n, line in enumerate(lines)]), 0.5)
    assert (found.step, found.sentences) == (7, 7)
    assert [(trial.bias, trial.threshold) for trial in found.trials] == [(b, t) for b in BIASES for t in THRESHOLDS]
    corrector = Corrector(model, vocabulary)
    for trial in found.trials:
        corrector.caution = Caution(trial.bias, trial.threshold)
        right_ones = [*CLEAN, *(right for _, right in WRONG)]
        stayed = [corrector.correct(text).text == text for text in right_ones]
        kept = sum(stayed[: len(CLEAN)])
        given = [corrector.correct(wrong).text for wrong, _ in WRONG]
        hits = sum(text == right for text, (_, right) in zip(given, WRONG, strict=True))
        changed = sum(text != wrong for text, (wrong, _) in zip(given, WRONG, strict=True)) + len(CLEAN) - kept
        assert trial.untouched == sum(stayed) / len(right_ones)
        assert trial.f1 == (2 * hits / (changed + len(WRONG)))
    assert len({trial.untouched for trial in found.trials}) > 1
    fitting = [trial for trial in found.trials if trial.untouched >= 0.5]
    assert found.chosen in fitting
    assert found.chosen.f1 == max(trial.f1 for trial in fitting)

    stored = json.loads((run / "correction.json").read_text("utf-8"))
    assert len(stored["trials"]) == len(BIASES) * len(THRESHOLDS)
    assert Corrector.load(run).caution == Caution(found.bias, found.threshold, 7) == Caution.load(run)
    assert str(Caution.load(run)) == f"bias {found.bias:g}, threshold {found.threshold:g} (calibrated at step 7)"
    assert str(Caution()) == "bias 1, threshold 2 (not calibrated)"
    assert "50.00% untouched" not in str(found)


def test_where_nothing_fits_most_stay_untouched(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate_module, "THRESHOLDS", (-1e9, 0.0))
    monkeypatch.setattr(calibrate_module, "BIASES", (-1e9, 0.0))
    found = calibrate(run, write(run, ["\t".join(pair) for pair in WRONG]), 1.0)
    assert found.sentences == 3
    assert found.chosen.untouched == max(trial.untouched for trial in found.trials) < 1
    assert str(found).endswith("no settings leave 100.00% untouched")


def test_of_many_lines_some_are_looked_at(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate_module, "SENTENCES", 3)
    monkeypatch.setattr(calibrate_module, "THRESHOLDS", (1.0,))
    found = calibrate(run, write(run, ["我\t我", "", "爱\t爱", "是\t事", "我\t我", "中\t中"]), 0.98)
    assert found.sentences == 3, "of five lines the first, third and fifth"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["我\t我", "我爱\t我"], r"pairs\.tsv:2: its source has 2 positions, its target 1 .*; leave the line out"),
        (["我"], r"pairs\.tsv:1: 1 column\(s\)"),
        ([], r"pairs\.tsv: no sentences in it"),
    ],
)
def test_bad_files(run: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        calibrate(run, write(run, lines), 0.98)
    assert not (run / "correction.json").exists()


def test_the_command_warns_of_test_sets(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(run, ["我\t我"])
    assert cli.main(["calibrate", str(run), str(path)]) == 0
    printed = capsys.readouterr()
    assert f"{path}: tuned on, so no test set: no figure on it can be trusted afterwards\n" in printed.err
    assert printed.out.startswith("bias ")


def test_only_a_run_folder_is_calibrated(run: Path) -> None:
    with pytest.raises(UserError, match="no run folder with checkpoints"):
        calibrate(run / "checkpoints" / "step_00000007", write(run, ["我\t我"]), 0.98)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_calibration_is_refused(run: Path, data: st.DataObject) -> None:
    path, kept = run / "correction.json", run / "whole.json"
    if not kept.exists():
        assert Caution.load(run) == Caution()
        save_calibration(run, calibrate(run, write(run, ["我\t我"]), 0.98))
        kept.write_bytes(path.read_bytes())
    whole = kept.read_bytes()
    path.write_bytes(data.draw(damaged(whole)))
    found = answer_of(lambda: Caution.load(run), path)
    if found is not None:  # white space alone may differ
        stored = json.loads(whole)
        assert found == Caution(stored["bias"], stored["threshold"], stored["step"])
