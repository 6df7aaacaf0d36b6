"""When a run ends early, and that it stays ended."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from engines import make_config
from hypothesis import given
from hypothesis import strategies as st

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.dataset import SplitWriter
from hzlm.errors import UserError
from hzlm.model.pretrained import Checkpoint
from hzlm.train.patience import Patience
from hzlm.train.records import read_history, read_metrics
from hzlm.train.run import train
from hzlm.train.status import read_status
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]
NAN = float("nan")
FROZEN = dict.fromkeys(("tokens", "positions", "encoder", "encoder_norm", "decoder", "decoder_norm"), 0.0)


@pytest.mark.parametrize(
    ("losses", "limit", "end"),
    [
        ([3.0, 2.0, 2.5, 1.9, 2.0, 1.9], 2, 6),
        ([3.0, 2.0, 2.5, 1.9, 2.0, 1.8], 2, None),
        ([3.0, 3.0], 1, 2),
        ([NAN, 2.0, float("inf"), NAN], 2, 4),
        ([NAN, NAN], 2, 2),
        ([1.0, 2.0, 3.0], None, None),
    ],
)
def test_so_many_measurements_without_a_lower_loss_end_it(
    losses: list[float], limit: int | None, end: int | None
) -> None:
    patience, ended = Patience(), None
    for number, loss in enumerate(losses, start=1):
        patience = patience.updated(loss)
        if ended is None and patience.is_over(limit):
            ended = number
    assert ended == end


@given(st.lists(st.floats(0, 9), min_size=1))
def test_it_counts_since_the_first_lowest(losses: list[float]) -> None:
    patience = Patience()
    for loss in losses:
        patience = patience.updated(loss)
    assert patience == Patience(min(losses), len(losses) - 1 - losses.index(min(losses)))


@pytest.fixture
def make(
    tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig
) -> Callable[..., RunConfig]:
    """Runs that learn nothing, measured every second step: the first measurement stays the best one."""
    data = write_dataset(tmp_path / "data", sentences)

    def make(name: str, **changes: object) -> RunConfig:
        plan = {"output": tmp_path / name, "steps": 20, "evaluate_every": 2, "save_every": 5, "patience": 3} | changes
        return make_config(data, model_config, optimizer={"rate_factors": FROZEN}, train=plan)

    return make


def test_a_run_ends_early_and_stays_so(make: Callable[..., RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    """Measured at 2, 4, 5 and 6: the third one without a lower loss is at step 6."""
    folder = train(make("run"))
    dev = [line for line in read_metrics(folder) if "dev/loss" in line]
    assert [line["step"] for line in dev] == [2, 4, 5, 6]
    told = f"ended early: no loss below {dev[0]['dev/loss']:.4f} in 3 measurements on dev"
    assert read_history(folder)[-1]["reason"] == told
    assert read_status(folder).table().splitlines()[1].split(maxsplit=1)[1].startswith(f"{told}, 0:0")
    line = f"run {told}, at step 6 of 20; raise train.patience to go on"
    assert capsys.readouterr().err.splitlines()[-1] == line
    manifest = Checkpoint.open(folder).manifest
    assert (manifest["step"], manifest["patience"]) == (6, {"best": dev[0]["dev/loss"], "since": 3})
    assert manifest["dev"]["loss"] == dev[-1]["dev/loss"]
    history = read_history(folder)
    train(make("run"))
    assert read_history(folder) == history, "it was not started again"
    assert capsys.readouterr().err.splitlines() == [line]
    train(make("run", patience=4))
    assert read_history(folder)[-1]["step"] == 8


def test_a_run_that_was_stopped_ends_at_the_same_step(make: Callable[..., RunConfig]) -> None:
    """Step 5 is measured and saved anyway."""
    train(make("run", steps=5))
    assert read_history(train(make("run")))[-1]["step"] == 6


def test_without_a_dev_split_there_is_nothing_to_wait_for(
    make: Callable[..., RunConfig], tmp_path: Path, vocabulary: Vocabulary
) -> None:
    config = make("run")
    with SplitWriter(tmp_path / "data", "dev", vocabulary) as writer:
        writer.finish()
    with pytest.raises(UserError, match=r"train\.patience = 3 counts measurements, but there is an empty dev set"):
        train(config)
    assert not (tmp_path / "run").exists()
