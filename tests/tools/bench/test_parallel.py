"""What real ranks send and hold is what the formulas say, for layouts and settings that `hzlm bench parallel` has."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hzlm.launch.processes import run_ranks
from hzlm.tools.bench import parallel
from hzlm.tools.bench.parallel import CASES, Measured, bench_parallel, measure_rank
from hzlm.tools.plan.channels import Channel, Volume

Write = Callable[[Path, Sequence[str]], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), sentences)


def measure(folder: Path, case: dict[str, Any]) -> list[Measured]:
    return run_ranks(measure_rank, parallel.count_ranks(case), parallel.make_config(folder, case))


@pytest.mark.parametrize(
    "case",
    [
        {"precision": "bf16", "dropout": 0.1},
        {"pipe": 2, "data": 2, "accumulation": 3},
        {"tensor": 2, "sequence_parallel": True, "recompute": "whole", "dropout": 0.1},
        {"pipe": 2, "schedule": "dualpipev", "optimizer": "adamw"},
    ],
    ids=str,
)
def test_ranks_send_and_hold_what_the_formulas_say(folder: Path, case: dict[str, Any]) -> None:
    outcomes = measure(folder, case)
    for outcome in outcomes:
        assert outcome.sent == outcome.sent_by_formula
        assert outcome.bytes_ratio == 1.0
        if case.get("schedule") == "dualpipev":
            assert outcome.held_by_formula is outcome.memory_ratio is None
        else:
            assert outcome.held == pytest.approx(outcome.held_by_formula, rel=0.1)
    assert any(outcome.sent for outcome in outcomes) == (len(outcomes) > 1)


def test_the_cases_have_every_axis_and_setting() -> None:
    keys = {key for case in CASES for key in case}
    assert keys >= {"pipe", "data", "tensor", "sequence_parallel", "recompute", "schedule", "precision", "optimizer"}


def test_a_difference_is_told() -> None:
    channel = Channel("all_reduce", (0, 1), None)
    for ours, ratio in ((Volume(2, 150), 1.5), (Volume(3, 100), 0.0), (Volume(2, 100), 1.0)):
        assert Measured({channel: ours}, {channel: Volume(2, 100)}, {}, None).bytes_ratio == ratio
    assert Measured({channel: Volume(1, 1)}, {}, {}, None).bytes_ratio == 0.0
    assert Measured({}, {channel: Volume(1, 1)}, {}, None).bytes_ratio == 0.0
    assert Measured({}, {}, {"weights": 8, "peak": 30}, {"weights": 10, "peak": 29}).memory_ratio == 0.8


def test_the_last_line_is_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_parallel(folder, ({}, {"data": 2}), rounds=1)
    *_, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found.keys() == {"bytes_vs_formula", "memory_vs_formula", "scaling_2"}
    assert found["bytes_vs_formula"] == 1.0
    assert abs(found["memory_vs_formula"] - 1) < 0.1
    assert found["scaling_2"] > 0
