"""`hzlm check layouts`: layouts that hold, mistakes that it finds, and what each layout reads in each step."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from hzlm.config import RunConfig
from hzlm.data import batches
from hzlm.data.batches import Counts, MicroBatch
from hzlm.data.dataset import Dataset, Record
from hzlm.errors import UserError
from hzlm.launch.processes import run_ranks
from hzlm.parallel.mesh import Mesh
from hzlm.tools.check import layouts
from hzlm.tools.check.layouts import (
    BOUND,
    KEY_BIAS_BOUND,
    LAYOUTS,
    ONE,
    RESUMES,
    Layout,
    Outcome,
    Trainer,
    check_layouts,
    describe,
    parse_layout,
)
from hzlm.train.engine import Engine, StepResult
from hzlm.train.lamb import Lamb
from hzlm.train.run import train

Write = Callable[[Path, Sequence[str]], Path]
TWO_DATA = Layout(1, 2, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path_factory.mktemp("layouts") / "data", sentences)


@pytest.fixture(scope="module")
def trainer(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """It trains one process once, for all tests that compare with it."""
    return Trainer(data, tmp_path_factory.mktemp("trainer"), "lamb")


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six, with a checkpoint after three."""
    monkeypatch.setattr(layouts, "STEPS", 6)


@pytest.mark.parametrize("layout", [ONE, *LAYOUTS], ids=lambda layout: layout.name)
def test_a_layout_is_found_by_its_name(layout: Layout) -> None:
    assert parse_layout(layout.name.replace(" +", "+").replace(" dual", "+dual")) == layout


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("2x2", "three numbers"),
        ("2x2x2x2", "three numbers"),
        ("2x0x2", "three numbers"),
        ("2x-1x2", "three numbers"),
        ("axbxc", "three numbers"),
        ("", "three numbers"),
        ("1x1x2+row", "unknown 'row'; known are [+]rows and [+]dualpipev"),
        ("1x1x2+rows+dualpipev", "unknown 'rows[+]dualpipev'"),
    ],
)
def test_what_is_no_layout_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        parse_layout(text)
    assert str(caught.value).startswith(f"{text}: ")


@pytest.mark.usefixtures("few_steps")
def test_layouts_and_a_resume_hold(data: Path) -> None:
    chosen = [parse_layout(text) for text in ("1x2x1", "1x1x2+rows", "2x1x2")]
    outcomes = check_layouts(data, chosen, [(TWO_DATA, Layout(2, 1, 1))])
    assert [outcome.name for outcome in outcomes] == ["1x2x1", "1x1x2 +rows", "2x1x2", "1x2x1, then 2x1x1"]
    assert all(outcome.holds for outcome in outcomes), describe(outcomes)
    assert "OUT OF BOUNDS" not in describe(outcomes)


def train_with_counts_of_its_own(config: RunConfig) -> None:
    """The mistake: a rank takes the mean over its own positions, not over those of all ranks."""
    count = batches.count

    def count_own(own: Sequence[MicroBatch], mesh: Mesh) -> Counts:
        counts = count(own)
        values = {name: value * mesh.data.size for name, value in vars(counts).items()}
        return Counts(**values)

    with patch.object(batches, "count", count_own):
        train(config)


def train_with_ratios_of_its_own(config: RunConfig) -> None:
    """The mistake: the trust ratio of a tensor is taken over what a rank has of it."""
    with patch.object(Lamb, "set_layout", lambda *_: None):
        train(config)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("mistake", [train_with_counts_of_its_own, train_with_ratios_of_its_own])
def test_a_mistake_that_only_layouts_make_is_found(
    trainer: Trainer, mistake: Callable[[RunConfig], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`test_layouts_and_a_resume_hold` shows that this layout is within bounds without it."""
    monkeypatch.setattr(layouts, "SEEDS", (1,))
    monkeypatch.setattr(layouts, "train_as_rank", mistake)
    outcome = trainer.compare([TWO_DATA])
    assert outcome.tensor_error > 100 * BOUND
    assert not outcome.holds
    assert describe([outcome]).splitlines()[-1].endswith("OUT OF BOUNDS")


def test_each_bound_counts() -> None:
    good = Outcome("1x2x1", BOUND, BOUND, "tokens.weight", KEY_BIAS_BOUND, 1, 2.5)
    assert good.holds
    for name, value in (("loss_error", BOUND), ("tensor_error", BOUND), ("key_bias_error", KEY_BIAS_BOUND)):
        assert not replace(good, **{name: 1.01 * value}).holds
        assert not replace(good, **{name: math.nan}).holds


def train_and_tell(config: RunConfig) -> list[list[int]]:
    """The records of the training split that a rank has read for each of its steps."""
    read: list[int] = []
    steps: list[list[int]] = []
    record, train_step = Dataset.record, Engine.train_step

    def record_and_note(dataset: Dataset, number: int) -> Record:
        if dataset.split == "train":
            read.append(number)
        return record(dataset, number)

    def step_and_note(engine: Engine, *arguments: Any) -> StepResult:
        steps.append(list(read))
        read.clear()
        return train_step(engine, *arguments)

    with patch.object(Dataset, "record", record_and_note), patch.object(Engine, "train_step", step_and_note):
        train(config)
    return steps


def test_every_layout_reads_the_same_samples_in_the_same_steps(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data-parallel ranks share them; both stages of a pipeline read them all. A step has about a quarter of them."""
    monkeypatch.setattr(layouts, "STEP_ROWS", 4)
    found = {}
    for name in ("1x1x1", "1x2x1", "2x1x1"):
        layout = parse_layout(name)
        config = Trainer(data, tmp_path / name, "lamb").config(layout, 6, seed=1)
        found[name] = run_ranks(train_and_tell, layout.ranks, config)
    (alone,) = found["1x1x1"]
    assert len(alone) == 6
    assert len({tuple(sorted(step)) for step in alone}) == 6
    assert found["2x1x1"] == [alone, alone]
    first, second = found["1x2x1"]
    assert [Counter(ours + theirs) for ours, theirs in zip(first, second, strict=True)] == [*map(Counter, alone)]
    assert all(0 < len(ours) < len(step) for ours, step in zip(first, alone, strict=True))


def test_a_layout_goes_on_with_the_samples_that_are_next(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps on two data-parallel ranks, three more on two stages: together the samples of one process."""
    monkeypatch.setattr(layouts, "STEP_ROWS", 4)
    monkeypatch.setattr(layouts, "STEPS", 6)
    found = {}
    for folder, name, steps in (("one", "1x1x1", 6), ("both", "1x2x1", 3), ("both", "2x1x1", 6)):
        layout = parse_layout(name)
        config = Trainer(data, tmp_path / folder, "lamb").config(layout, steps, seed=1)
        found[name] = run_ranks(train_and_tell, layout.ranks, config)
    (alone,) = found["1x1x1"]
    first, second = found["1x2x1"]
    assert [Counter(ours + theirs) for ours, theirs in zip(first, second, strict=True)] == [*map(Counter, alone[:3])]
    assert found["2x1x1"] == [alone[3:], alone[3:]]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_layouts_and_resumes_hold(data: Path) -> None:
    outcomes = check_layouts(data, LAYOUTS, RESUMES)
    assert len(outcomes) == len(LAYOUTS) + len(RESUMES)
    assert all(outcome.holds for outcome in outcomes), describe(outcomes)
