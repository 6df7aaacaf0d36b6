"""Arms that are trained and measured once, and never again. What trains is stood in for but once."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from hzlm import cli
from hzlm.config import ModelConfig, RunConfig
from hzlm.data.dataset import Dataset
from hzlm.decode import converter as converter_module
from hzlm.decode.converter import Converter
from hzlm.decode.ngram import NGRAM_FILE
from hzlm.errors import UserError
from hzlm.evaluate.records import read_records
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.settings import save_settings
from hzlm.tools.ablation import run as run_module
from hzlm.tools.ablation.plan import Plan, load_plan
from hzlm.tools.ablation.run import read_results, run_arm
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]
MakePlan = Callable[..., Plan]


@pytest.fixture
def make_plan(tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig) -> MakePlan:
    """A function (measures) -> plan of the arms plain, of one run, and two, of two runs."""
    data = str(write_dataset(tmp_path / "data", sentences))

    def make(steps: int = 1, **measures: dict[str, Any]) -> Plan:
        values = {
            "base": {
                "model": model_config.model_dump(),
                "data": {"path": data, "row_length": 20, "views": {"pinyin": 1}},
                "schedule": {"scale": 1, "warmup_steps": 4},
                "train": {"steps": steps, "micro_batch_rows": 2, "evaluate_rows": 2},
            },
            "arms": {"plain": [{}], "two": [{"data": {"views": {"masked": 1}}}, {}]},
            "reference": "plain",
            "seeds": [1],
            "measures": {
                name: {"data": data, "sentences": 12} | fields for name, fields in (measures or {"short": {}}).items()
            },
        }
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(values), "utf-8")
        return load_plan(path)

    return make


@pytest.fixture
def trained(model: EncoderDecoder, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The outputs of the runs in the order in which they are trained: that is, of which config.yaml is written."""
    outputs: list[Path] = []

    def train(config: RunConfig) -> Path:
        config.train.output.mkdir(exist_ok=True)
        save_settings(config, config.train.output / "config.yaml")
        outputs.append(config.train.output)
        return config.train.output

    monkeypatch.setattr(run_module, "train", train)
    monkeypatch.setattr(converter_module, "load_model", lambda path: (model, vocabulary))
    return outputs


def test_the_runs_of_an_arm_are_trained_in_order(make_plan: MakePlan, trained: list[Path], tmp_path: Path) -> None:
    run_arm(make_plan(), "two", 1, tmp_path / "out")
    assert trained == [tmp_path / "out" / "two" / "seed-1" / f"run-{number}" for number in (1, 2)]


def test_right_characters_are_counted_by_sentence(make_plan: MakePlan, trained: list[Path], tmp_path: Path) -> None:
    plan = make_plan(short={}, behind={"context": 8, "view": "keys"})
    run_arm(plan, "plain", 1, tmp_path / "out")
    dev = Dataset.open(tmp_path / "data", "dev")
    converter = Converter.load("the model")
    for name, view, context in (("short", "pinyin", 0), ("behind", "keys", 8)):
        result = read_results(plan, "plain", name, tmp_path / "out")[1]
        right, counted = [], []
        examples = list(read_records(dev, view, context, 12))
        for example, found in zip(examples, converter.search([one.source for one in examples]), strict=True):
            asked = [i for i, sign in enumerate(example.hanzi) if sign != "，"]
            counted.append(len(asked))
            right.append(sum(found[0].text[i] == example.hanzi[i] for i in asked))
        assert (result.right, result.counted) == (right, counted)
        assert result.accuracy == sum(right) / sum(counted)
        assert len(counted) == 12
        assert 0 < sum(right) < sum(counted)


def test_what_is_done_is_not_done_again(make_plan: MakePlan, trained: list[Path], tmp_path: Path) -> None:
    run_arm(make_plan(), "plain", 1, tmp_path / "out")
    path = tmp_path / "out" / "plain" / "seed-1" / "short.json"
    marked = json.loads(path.read_text()) | {"right": [1], "counted": [2]}
    path.write_text(json.dumps(marked))
    run_arm(make_plan(), "plain", 1, tmp_path / "out")
    assert len(trained) == 1
    plan = make_plan(short={}, another={"view": "toned"})
    run_arm(plan, "plain", 1, tmp_path / "out")
    assert len(trained) == 2, "which training itself finds done"
    assert json.loads(path.read_text()) == marked
    assert read_results(plan, "plain", "another", tmp_path / "out")[1].right


def test_results_of_other_runs_are_refused(make_plan: MakePlan, trained: list[Path], tmp_path: Path) -> None:
    run_arm(make_plan(), "plain", 1, tmp_path / "out")
    with pytest.raises(UserError, match="measured already, but not after the runs of this plan") as caught:
        run_arm(make_plan(steps=2), "plain", 1, tmp_path / "out")
    assert str(tmp_path / "out" / "plain" / "seed-1" / "run-1" / "config.yaml") in str(caught.value)
    assert len(trained) == 1


def test_results_of_another_measure_are_refused(make_plan: MakePlan, trained: list[Path], tmp_path: Path) -> None:
    run_arm(make_plan(), "plain", 1, tmp_path / "out")
    with pytest.raises(UserError, match=r"short\.json: was not measured as the plan says now; delete it"):
        run_arm(make_plan(short={"view": "toned"}), "plain", 1, tmp_path / "out")
    assert len(trained) == 1


def test_what_the_weight_is_tuned_on_is_not_measured(make_plan: MakePlan, trained: list[Path], tmp_path: Path) -> None:
    (tmp_path / "data" / NGRAM_FILE).touch()
    plan = make_plan(short={"fused": False}).model_copy(update={"ngram": tmp_path / "data"})
    fused = {"short": plan.measures["short"].model_copy(update={"fused": True})}
    with pytest.raises(UserError, match=r"weight is tuned on the dev split of .*data, so that it cannot be measured"):
        run_arm(plan.model_copy(update={"measures": fused}), "plain", 1, tmp_path / "out")
    assert trained == []


def test_what_is_missing_is_told_before_training(make_plan: MakePlan, trained: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such dataset folder"):
        run_arm(make_plan(short={"data": str(tmp_path / "none")}), "plain", 1, tmp_path / "out")
    plan = make_plan().model_copy(update={"ngram": tmp_path / "data"})
    fused = {"short": plan.measures["short"].model_copy(update={"fused": True})}
    with pytest.raises(UserError, match="data: no n-gram model here; make the dataset with"):
        run_arm(plan.model_copy(update={"measures": fused}), "plain", 1, tmp_path / "out")
    assert trained == []


def test_the_command(make_plan: MakePlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two real runs of one step."""
    make_plan()
    arguments = ["ablate", str(tmp_path / "plan.yaml"), "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, "--seed", "3"]) == 2
    assert "--seed 3: the seeds of the plan are 1" in capsys.readouterr().err
    assert cli.main([*arguments, "--arm", "two"]) == 0
    table = capsys.readouterr().out
    assert table == (tmp_path / "out" / "table.md").read_text("utf-8")
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][2:] == ["| two"]
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("metrics.jsonl")}
    assert len(before) == 2
    assert cli.main([*arguments, "--arm", "two"]) == 0
    assert capsys.readouterr().out == table
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("metrics.jsonl")} == before
