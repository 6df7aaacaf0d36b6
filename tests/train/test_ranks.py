"""How the ranks of a run find each other, agree, and notice that one of them is gone; in real processes."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from engines import make_config, start_engine

from hzlm.config import ModelConfig, RunConfig
from hzlm.errors import UserError, is_shared
from hzlm.launch.processes import run_ranks
from hzlm.parallel.collectives import gather_objects
from hzlm.parallel_config import ParallelConfig
from hzlm.train.ranks import compare, connect, lost_ranks_explained

Write = Callable[[Path, Sequence[str]], Path]


def connect_all(layouts: Sequence[Mapping[str, Any]]) -> list[str | tuple[int, ...]]:
    """For each layout the place of this rank, or what is said."""
    found: list[str | tuple[int, ...]] = []
    for layout in layouts:
        try:
            mesh = connect(ParallelConfig.model_validate(layout))
        except UserError as error:
            found.append(str(error) if is_shared(error) else f"on this rank alone: {error}")
        else:
            found.append((mesh.pipe.index, mesh.data.index, mesh.tensor.index, mesh.world.index))
    return found


def test_ranks_get_their_places_or_hear_what_to_set() -> None:
    """Two processes for layouts of two, of one and of four."""
    layouts: list[dict[str, Any]] = [
        *({"pipe": 2}, {"data": 2}, {"tensor": 2}),
        {},
        {"pipe": 4},
        {"data": 2, "tensor": 2},
    ]
    first, second = run_ranks(connect_all, 2, layouts)
    assert first[:3] == [(0, 0, 0, 0)] * 3
    assert second[:3] == [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1)]
    alone, pipe, square = first[3:]
    assert second[3:] == [alone, pipe, square]
    assert alone == (
        "parallel: pipe 1 x data 1 x tensor 1 = 1 processes, but 2 were started; start 1, or set parallel.data=2"
    )
    assert pipe == (
        "parallel: pipe 4 x data 1 x tensor 1 = 4 processes, but 2 were started; start 4, or set parallel.pipe=2"
    )
    assert square == (
        "parallel: pipe 1 x data 2 x tensor 2 = 4 processes, but 2 were started; start 4, or set parallel.data=1"
    )


def test_one_process_is_too_few_for_a_layout_of_two() -> None:
    (found,) = run_ranks(connect_all, 1, [{"tensor": 2}])
    assert found == [
        "parallel: pipe 1 x data 1 x tensor 2 = 2 processes, but 1 was started; start 2, or set parallel.tensor=1"
    ]


def connect_each(layouts: Sequence[Mapping[str, Any]]) -> str | tuple[int, ...]:
    """With a layout for each rank."""
    return connect_all([layouts[int(os.environ["RANK"])]])[0]


@pytest.mark.parametrize("other", [{"data": 2}, {}])
def test_ranks_with_different_layouts_do_not_wait_for_each_other(other: dict[str, Any]) -> None:
    """One of them does not even fit the number of processes."""
    start = time.monotonic()
    first, second = run_ranks(connect_each, 2, [{"pipe": 2}, other])
    assert first == second
    name, value, theirs = ("data", 2, 1) if other else ("pipe", 1, 2)
    assert first == (
        f"rank 1 has parallel.{name} = {value}, but rank 0 has {theirs}; start all ranks with the same config, data "
        "and versions"
    )
    assert time.monotonic() - start < 30


def compare_all(cases: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """For each case, which holds what each rank has, what is said."""
    mesh = connect(ParallelConfig(data=3))
    found = []
    for case in cases:
        try:
            compare(case[mesh.world.index], mesh.world)
        except UserError as error:
            found.append(str(error) if is_shared(error) else f"on this rank alone: {error}")
        else:
            found.append("")
    return found


def test_ranks_that_do_not_agree_hear_who_has_what() -> None:
    same: dict[str, Any] = {"train.seed": 1, "runs/data": "f1", "torch": "2.6", "data.views": {"pinyin": 1.0}}
    cases = [
        [same, same, same],
        [same, same, same | {"schedule.scale": 2.0}],
        [same | {"schedule.scale": 2.0}, same, same],
        [same, same | {"runs/data": "f2"}, same | {"torch": "2.7"}],
        [same, same, same | {"torch": "2.7", "train.seed": 2, "runs/data": "f2"}],
        [same, same | {"data.views": {"pinyin": 2.0}}, same],
    ]
    parts = [
        "",
        "rank 2 has schedule.scale = 2.0, but rank 0 has None",
        "rank 1 has schedule.scale = None, but rank 0 has 2.0",
        "rank 1 has runs/data = f2, but rank 0 has f1",
        "rank 2 has runs/data = f2, but rank 0 has f1",  # the first by name, which all ranks know
        "rank 1 has data.views = {'pinyin': 2.0}, but rank 0 has {'pinyin': 1.0}",
    ]
    remedy = "; start all ranks with the same config, data and versions"
    assert run_ranks(compare_all, 3, cases) == [[part and part + remedy for part in parts]] * 3


def wait_for_rank_1(config: RunConfig, in_step: bool, done: Path | None) -> tuple[str, float]:
    """What rank 0 hears, and after how long.

    Args:
        config: of the run, which gives a rank five seconds.
        in_step: whether it waits in a training step; else as soon as the ranks are connected.
        done: rank 1 is silent until this file is there, which rank 0 makes when it has heard something; None: it ends.
    """
    if in_step:
        engine, steps = start_engine(config)
        batches, mesh = next(steps), engine.mesh
    else:
        mesh = connect(config.parallel)
    if mesh.world.index == 1:
        while done is not None and not done.exists():
            time.sleep(0.05)
        return "", 0.0
    start = time.monotonic()
    try:
        with lost_ranks_explained(config.parallel):
            if in_step:
                engine.train_step(batches, 1, 0.1)
            else:
                gather_objects("text", mesh.world)
    except ConnectionError as error:
        return str(error.strerror), time.monotonic() - start
    finally:
        if done is not None:
            done.touch()
    return "nothing", 0.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), sentences)


@pytest.mark.parametrize("in_step", [False, True])
def test_a_rank_that_ends_is_noticed_at_once(in_step: bool, data: Path, model_config: ModelConfig) -> None:
    config = make_config(data, model_config, (2, 1, 1), parallel={"timeout_minutes": 0.08})
    (text, seconds), _ = run_ranks(wait_for_rank_1, 2, config, in_step, None)
    assert text.startswith("another rank has ended or did not answer within 0.08 minutes (")
    assert text.endswith("); see what it says, then start the run again: it goes on from its last checkpoint")
    assert "\n" not in text
    assert seconds < 4


@pytest.mark.parametrize("in_step", [False, True])
def test_a_rank_that_is_silent_is_given_up_in_time(
    in_step: bool, data: Path, model_config: ModelConfig, tmp_path: Path
) -> None:
    """Whether it is waited for in one of hzlm's groups or in one of DeepSpeed's."""
    config = make_config(data, model_config, (1, 2, 1), parallel={"timeout_minutes": 0.08})
    (text, seconds), _ = run_ranks(wait_for_rank_1, 2, config, in_step, tmp_path / "done")
    assert text.startswith("another rank has ended or did not answer within 0.08 minutes (")
    assert 4.7 < seconds < 12


def wait_for_a_rank_that_never_starts() -> str:
    os.environ["WORLD_SIZE"] = "2"
    with pytest.raises(ConnectionError) as caught:
        connect(ParallelConfig(data=2, timeout_minutes=0.02))
    return str(caught.value.strerror)


def test_a_rank_that_never_starts_is_given_up_in_time() -> None:
    (text,) = run_ranks(wait_for_a_rank_that_never_starts, 1)
    assert text.startswith("another rank has ended or did not answer within 0.02 minutes (")


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"), lost_ranks_explained(ParallelConfig()):
        torch.ones(2, 3) @ torch.ones(2, 3)
    with pytest.raises(UserError), lost_ranks_explained(ParallelConfig()):
        raise UserError("gloo")
