"""Which layouts a run may have, and what is said about one that does not fit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hzlm.config import RunConfig, load_config
from hzlm.errors import UserError
from hzlm.parallel_config import ParallelConfig, check_world
from hzlm.settings import save_settings

HEADS, INNER, ENCODER, DECODER = 12, 64, 4, 2
RUN = f"""
model: {{hidden_size: 96, heads: {HEADS}, feed_forward_size: {INNER}, encoder_layers: {ENCODER},
    decoder_layers: {DECODER}, max_length: 32}}
data: {{path: runs/data, views: {{pinyin: 1}}}}
schedule: {{scale: 1e-3, warmup_steps: 100}}
train: {{output: runs/first, steps: 200, micro_batch_rows: 8, accumulation: 4}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(RUN, "utf-8")
    return path


def test_a_run_is_one_process_unless_it_says_more(file: Path) -> None:
    parallel = load_config(file).parallel
    assert (parallel.processes, parallel.stage_count, parallel.schedule) == (1, 1, "1f1b")
    check_world(parallel, 1)


def test_a_layout_by_hand(file: Path, tmp_path: Path) -> None:
    sizes = ["parallel.pipe=2", "parallel.data=3", "parallel.tensor=4", "parallel.sequence_parallel=true"]
    config = load_config(file, [*sizes, "parallel.schedule=dualpipev", "parallel.stages=[1, 1, 3, 1]"])
    assert (config.parallel.processes, config.parallel.stage_count) == (24, 4)
    assert config.parallel.stages == (1, 1, 3, 1)
    check_world(config.parallel, 24)
    save_settings(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tensor=3"], "override parallel.tensor=3: parallel.tensor = 3 does not divide "
            "model.feed_forward_size = 64; 2 or 4 would fit"),
        (["tensor=8"], "parallel.tensor = 8 does not divide model.heads = 12; 4 would fit"),
        (["tensor=0"], "parallel.tensor = 0: must be greater than 0"),
        (["pipe=7"], "parallel.pipe = 7 with schedule 1f1b has 7 stages, but the model has 4 + 2 = 6 blocks; "
            "at most 6 would fit"),
        (["pipe=4", "schedule=dualpipev"], "parallel.pipe = 4 with schedule dualpipev has 8 stages, but the model has "
            "4 + 2 = 6 blocks; at most 3 would fit"),
        (["pipe=3", "stages=[3, 3]"], "parallel.stages = [3, 3] names 2 stages, but parallel.pipe = 3 with schedule "
            "1f1b has 3; give so many numbers, or null"),
        (["pipe=2", "stages=[3, 4]"], "parallel.stages = [3, 4] holds 7 blocks, but the model has 4 + 2 = 6 blocks; "
            "make the sum equal, or null"),
        (["pipe=2", "stages=[6, 0]"], "parallel.stages.1 = 0: must be greater than 0"),
        (["stages=6"], "parallel.stages = 6: must be a valid array"),
        (["sequence_parallel=true"], "override parallel.sequence_parallel=true: parallel.sequence_parallel = true "
            "needs a parallel.tensor of 2 or more"),
        (["schedule=dualpipev"], "parallel.schedule = dualpipev needs a parallel.pipe of 2 or more; make it 1f1b"),
        (["schedule=gpipe"], "parallel.schedule = \"gpipe\": must be '1f1b' or 'dualpipev'"),
        (["pipe=3", "schedule=dualpipev"], "train.accumulation = 4 is too small for parallel.schedule = dualpipev, "
            "which needs 2 * parallel.pipe = 6 or more"),
        (["timeout_minutes=0"], "parallel.timeout_minutes = 0: must be greater than 0"),
        (["timeout_minutes=1e9"], "parallel.timeout_minutes = 1000000000.0: must be less than or equal to 10080"),
    ],
)  # fmt: skip
def test_a_layout_that_does_not_fit(file: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(file, [f"parallel.{override}" for override in overrides])
    assert message in str(caught.value)


@pytest.mark.parametrize(("rows", "fitting"), [(3, "4"), (6, "4 or 8")])
def test_rows_that_cannot_be_shared(file: Path, rows: int, fitting: str) -> None:
    tensor = ["parallel.tensor=4", f"train.micro_batch_rows={rows}"]
    assert load_config(file, tensor).train.micro_batch_rows == rows
    with pytest.raises(UserError) as caught:
        load_config(file, [*tensor, "parallel.sequence_parallel=true"])
    assert f"train.micro_batch_rows = {rows} is no multiple of parallel.tensor = 4" in str(caught.value)
    assert str(caught.value).endswith(f"; {fitting} would fit")


def test_two_blocks_are_too_few_for_dualpipev(file: Path) -> None:
    short = ["model.encoder_layers=1", "model.decoder_layers=1", "parallel.pipe=2", "parallel.schedule=dualpipev"]
    with pytest.raises(UserError, match="the model has 1 \\+ 1 = 2 blocks; make the schedule 1f1b"):
        load_config(file, short)
    load_config(file, [*short, "parallel.schedule=1f1b"])


LAYOUTS = st.fixed_dictionaries(
    {
        "pipe": st.integers(1, 8),
        "data": st.integers(1, 5),
        "tensor": st.integers(1, 13),
        "sequence_parallel": st.booleans(),
        "schedule": st.sampled_from(["1f1b", "dualpipev"]),
        "stages": st.none() | st.lists(st.integers(1, 3), min_size=1, max_size=7).map(tuple),
    }
)
FITTING = st.sampled_from(
    [
        {"pipe": pipe, "data": data, "tensor": tensor, "sequence_parallel": rows, "schedule": schedule}
        for pipe in range(1, 7)
        for data in (1, 2, 3)
        for tensor in (1, 2, 4)
        for rows in {False, tensor > 1}
        for schedule in {"1f1b", "dualpipev" if pipe in (2, 3) else "1f1b"}
    ]
)


def run_with(layout: dict[str, Any], rows: int = 8, accumulation: int = 8) -> RunConfig:
    """The run with a layout; raises `ValidationError` where they do not go together."""
    values = yaml.safe_load(RUN)
    values["train"] |= {"micro_batch_rows": rows, "accumulation": accumulation}
    values |= {"schedule": {"scale": 1, "warmup_steps": 9}, "parallel": layout}
    return RunConfig.model_validate_json(json.dumps(values))


@given(LAYOUTS, st.integers(1, 9), st.integers(1, 9))
def test_a_layout_is_taken_where_it_fits(layout: dict[str, Any], rows: int, accumulation: int) -> None:
    tensor, dual = layout["tensor"], layout["schedule"] == "dualpipev"
    stages = layout["pipe"] * (2 if dual else 1)
    fits = [
        tensor in (1, 2, 4),
        stages <= ENCODER + DECODER,
        layout["stages"] is None or (len(layout["stages"]), sum(layout["stages"])) == (stages, ENCODER + DECODER),
        not layout["sequence_parallel"] or (tensor > 1 and rows % tensor == 0),
        not dual or (layout["pipe"] > 1 and accumulation >= stages),
    ]
    if all(fits):
        assert run_with(layout, rows, accumulation).parallel == ParallelConfig(**layout)
    else:
        with pytest.raises(ValidationError, match="parallel"):
            run_with(layout, rows, accumulation)


@given(FITTING, st.integers(1, 64))
def test_what_is_proposed_for_another_number_of_processes_fits(layout: dict[str, Any], world: int) -> None:
    parallel = ParallelConfig(**layout)
    if parallel.processes == world:
        return check_world(parallel, world)
    with pytest.raises(UserError) as caught:
        check_world(parallel, world)
    changes = dict(re.findall(r"parallel\.(\w+)=(\S+)", str(caught.value)))
    if world % (parallel.pipe * parallel.tensor) == 0:
        assert changes.keys() == {"data"}
    proposed = run_with({**layout, **{name: yaml.safe_load(value) for name, value in changes.items()}}).parallel
    check_world(proposed, world)
    assert proposed.processes == world


def test_a_wrong_number_of_processes_is_told() -> None:
    parallel = ParallelConfig(pipe=2, data=2, tensor=2, stages=(3, 3))
    with pytest.raises(UserError) as caught:
        check_world(parallel, 6)
    assert str(caught.value) == (
        "parallel: pipe 2 x data 2 x tensor 2 = 8 processes, but 6 were started; "
        "start 8, or set parallel.pipe=1 parallel.data=3 parallel.stages=null"
    )
    with pytest.raises(UserError, match=r"but 4 were started; start 8, or set parallel\.data=1$"):
        check_world(parallel, 4)
