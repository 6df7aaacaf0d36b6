"""What an ablation is: how a plan is read, what is refused, and which runs an arm is."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hzlm.commands.ablate import PLAN_EXAMPLE
from hzlm.config import load_config
from hzlm.errors import UserError
from hzlm.tools.ablation.plan import Plan, choose_arms, configs_of, load_plan

VALUES: dict[str, Any] = {
    "base": {
        "model": {"size": "small", "dropout": 0.0},
        "data": {"path": "data", "views": {"pinyin": 3, "masked": 1}},
        "schedule": {"scale": 1, "warmup_steps": 5},
        "train": {"steps": 10, "micro_batch_rows": 4, "seed": 9, "output": "elsewhere"},
    },
    "arms": {
        "plain": [{}],
        "two": [
            {"data": {"views": {"masked": 1}}, "loss": {"encoder_weight": 0.5}, "train": {"steps": 3}},
            {"train": {"steps": 7}},
        ],
    },
    "reference": "plain",
    "measures": {"short": {"data": "data"}},
}

Alter = Callable[[dict[str, Any]], object]


def write(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    return path


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write(tmp_path, VALUES))


def test_a_plan_is_read(plan: Plan) -> None:
    assert (list(plan.arms), plan.seeds, plan.ngram) == (["plain", "two"], (1, 2), None)
    measure = plan.measures["short"]
    assert (measure.data, measure.view, measure.sentences, measure.context, measure.fused) == (
        Path("data"), "pinyin", 1000, 0, False,
    )  # fmt: skip


def test_the_example_of_the_command_is_a_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN_EXAMPLE, "utf-8")
    plan = load_plan(path)
    for arm in plan.arms:
        assert len(configs_of(plan, arm, 1, tmp_path / arm)) == len(plan.arms[arm])


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda v: v.update(reference="plane"), "reference: unknown arm; did you mean plain?"),
        (lambda v: v["arms"].update(none=[]), "arms.none: names no run; an arm that changes nothing is [{}]"),
        (lambda v: v.update(arms={}), "arms = {}: "),
        (lambda v: v.update(seeds=[]), "seeds = []: "),
        (lambda v: v.update(sedes=[1]), "sedes: unknown key; did you mean seeds?"),
        (lambda v: v["measures"]["short"].update(vew="keys"), "measures.short.vew: unknown key; did you mean view?"),
        (lambda v: v["measures"]["short"].update(view="kyes"), "measures.short.view: unknown view; did you mean keys?"),
        (lambda v: v["measures"]["short"].update(view="wrong"), "measures.short.view: wrong cannot be measured"),
        (lambda v: v["measures"]["short"].update(fused=True), "measures.short: is fused, but ngram is null"),
        (lambda v: v["measures"]["short"].update(arms=["tow"]), "measures.short.arms: unknown arm; did you mean two?"),
        (lambda v: v["measures"].update({"../x": {"data": "data"}}), "measures.../x"),
        (lambda v: v["base"].update(model=5), "base.model = 5: must be a"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, alter: Alter, message: str) -> None:
    values = copy.deepcopy(VALUES)
    alter(values)
    path = write(tmp_path, values)
    with pytest.raises(UserError) as caught:
        load_plan(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_fused_measure_needs_an_ngram(tmp_path: Path) -> None:
    values = copy.deepcopy(VALUES)
    values["measures"]["short"]["fused"] = True
    assert load_plan(write(tmp_path, values | {"ngram": "data"})).ngram == Path("data")


def test_measures_may_be_of_some_arms(tmp_path: Path) -> None:
    values = copy.deepcopy(VALUES)
    values["measures"]["long"] = {"data": "data", "arms": ["two"]}
    plan = load_plan(write(tmp_path, values))
    assert list(plan.measures_of("plain")) == ["short"]
    assert list(plan.measures_of("two")) == ["short", "long"]


def test_changes_replace_fields(plan: Plan, tmp_path: Path) -> None:
    (plain,) = configs_of(plan, "plain", 5, tmp_path / "plain")
    assert (plain.train.output, plain.train.seed) == (tmp_path / "plain" / "run-1", 5)
    assert (plain.train.steps, plain.train.micro_batch_rows, plain.train.initial_weights) == (10, 4, None)
    assert plain.data.views == {"pinyin": 3, "masked": 1}
    first, second = configs_of(plan, "two", 5, tmp_path / "two")
    assert first.data.views == {"masked": 1}, "a field is replaced as a whole"
    assert first.loss.encoder_weight == 0.5
    assert (first.train.steps, first.train.micro_batch_rows, first.model) == (3, 4, plain.model)
    assert second.data.views == plain.data.views, "what a run changes is not the next one's"
    assert second.train.steps == 7


def test_each_run_starts_from_the_last(plan: Plan, tmp_path: Path) -> None:
    first, second = configs_of(plan, "two", 5, tmp_path)
    assert (first.train.initial_weights, second.train.initial_weights) == (None, first.train.output)
    assert first.train.output != second.train.output
    seeds = [run.train.seed for seed in (1, 2) for run in configs_of(plan, "two", seed, tmp_path)]
    assert len(set(seeds)) == 4, "no two runs read their data in the same order"


def test_the_files_of_the_runs_say_what_they_are(plan: Plan, tmp_path: Path) -> None:
    configs = configs_of(plan, "two", 5, tmp_path)
    assert [load_config(tmp_path / f"run-{number}.yaml") for number in (1, 2)] == configs
    assert plan.base == VALUES["base"], "the plan stays as it is"


def test_changes_that_are_no_run_are_refused(tmp_path: Path) -> None:
    values = copy.deepcopy(VALUES)
    values["arms"]["plain"] = [{"train": {"stepps": 3}}]
    plan = load_plan(write(tmp_path, values))
    with pytest.raises(UserError) as caught:
        configs_of(plan, "plain", 1, tmp_path / "out")
    path = tmp_path / "out" / "run-1.yaml"
    assert str(caught.value) == f"{path}: train.stepps: unknown key; did you mean steps?"


def test_arms_are_chosen_in_the_order_of_the_plan(plan: Plan) -> None:
    assert choose_arms(plan, []) == ["plain", "two"]
    assert choose_arms(plan, ["two", "plain"]) == ["plain", "two"]
    assert choose_arms(plan, ["two"]) == ["two"]
    with pytest.raises(UserError, match=r"--arm tow: unknown arm; did you mean two\?"):
        choose_arms(plan, ["tow"])
