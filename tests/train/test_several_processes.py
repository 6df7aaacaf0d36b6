"""`hzlm train` as a launcher starts it: several processes that finish together, fail together and go on together."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from hzlm.config import ModelConfig, load_config
from hzlm.launch.environment import free_port
from hzlm.train.records import read_history, read_metrics
from hzlm.train.run import train
from runs import assert_equal_runs, fresh_environment

Write = Callable[[Path, Sequence[str]], Path]
PIPE = "parallel.pipe=2"
STEPS = 18


class Crew:
    """The processes of one start, and what they say on standard error."""

    def __init__(
        self, config: Path, overrides: Sequence[str], of_rank: Mapping[int, Sequence[str]], world: int
    ) -> None:
        """of_rank: further overrides of some ranks."""
        self._logs = [config.parent / f"rank_{rank}.log" for rank in range(world)]
        self.processes = []
        own = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        for rank, log in enumerate(self._logs):
            command = [sys.executable, "-m", "hzlm.cli", "train", str(config), *overrides, *of_rank.get(rank, ())]
            environment = fresh_environment() | own | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            environment["OMP_NUM_THREADS"] = "1"
            with log.open("w") as file:
                self.processes.append(
                    subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, env=environment)
                )

    def wait(self) -> list[int]:
        """The exit status of each."""
        return [process.wait(timeout=90) for process in self.processes]

    def said(self) -> list[str]:
        """The lines that hzlm has written in all processes together."""
        lines = [line for log in self._logs for line in log.read_text().splitlines()]
        assert not any(line.startswith("Traceback") for line in lines), lines
        return [line for line in lines if line.startswith(("hzlm:", "training "))]

    def complaints(self) -> list[str]:
        """Those of them that tell why it ended."""
        return [line for line in self.said() if line.startswith("hzlm:")]


@contextmanager
def started(
    config: Path, *overrides: str, of_rank: Mapping[int, Sequence[str]] | None = None, world: int = 2
) -> Iterator[Crew]:
    """A start of `hzlm train`, all of whose processes are gone afterwards."""
    crew = Crew(config, overrides, of_rank or {}, world)
    try:
        yield crew
    finally:
        for process in crew.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def config(
    tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str], model_config: ModelConfig
) -> Path:
    """Of runs of 18 steps with a checkpoint every sixth; the test gives train.output."""
    folder = tmp_path_factory.mktemp("runs")
    run = {
        "model": model_config.model_dump(),
        "data": {"path": str(write_dataset(folder / "data", sentences)), "row_length": 20, "views": {"pinyin": 1.0}},
        "schedule": {"scale": 1.0, "warmup_steps": 4},
        "train": {
            "output": "given by the test", "steps": STEPS, "micro_batch_rows": 1, "accumulation": 2, "log_every": 1,
            "evaluate_every": 6, "evaluate_rows": 4, "save_every": 6,
        },
        "parallel": {"timeout_minutes": 0.5},
    }  # fmt: skip
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(run), "utf-8")
    return path


@pytest.fixture(scope="module")
def straight(config: Path) -> Path:
    """The folder of a run that two processes, a pipeline, have brought to its end undisturbed."""
    folder = config.parent / "straight"
    with started(config, PIPE, f"train.output={folder}") as crew:
        assert crew.wait() == [0, 0]
        assert {line.partition(":")[0] for line in crew.said()} == {"training straight"}
    return folder


def wait_for_step(folder: Path, step: int, crew: Crew) -> None:
    while not any(line["step"] >= step for line in read_metrics(folder)):
        assert all(process.poll() is None for process in crew.processes), crew.complaints()
        time.sleep(0.005)


def test_two_processes_write_one_run_with_the_losses_of_one(config: Path, straight: Path) -> None:
    alone = train(load_config(config, [f"train.output={config.parent / 'alone'}"]))
    ours, theirs = (
        {name: [line[name] for line in read_metrics(run) if name in line] for name in ("train/loss", "dev/loss")}
        for run in (straight, alone)
    )
    assert len(ours["train/loss"]) == STEPS
    assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-5)
    assert ours["dev/loss"] == pytest.approx(theirs["dev/loss"], rel=1e-5)
    assert [line["step"] for line in read_metrics(straight)] == list(range(1, STEPS + 1))
    assert [(line["event"], line["step"]) for line in read_history(straight)] == [("start", 0), ("end", STEPS)]
    manifest = json.loads((straight / "checkpoints" / f"step_{STEPS:08d}" / "manifest.json").read_text())
    assert manifest["layout"] == {"pipe": 2, "data": 1, "tensor": 1}


@pytest.mark.parametrize(
    ("overrides", "of_rank", "wanted"),
    [
        (
            [PIPE],
            {1: ["schedule.scale=2.0"]},
            "rank 1 has schedule.scale = 2.0, but rank 0 has 1.0; start all ranks with the same config, data and "
            "versions",
        ),
        (
            [PIPE],
            {0: ["parallel.pipe=1", "parallel.data=2"]},
            "rank 1 has parallel.data = 1, but rank 0 has 2; start all ranks with the same config, data and versions",
        ),
        (
            ["parallel.tensor=4"],
            {},
            "parallel: pipe 1 x data 1 x tensor 4 = 4 processes, but 2 were started; start 4, or set parallel.tensor=2",
        ),
        (
            [PIPE],
            {1: ["data.path=elsewhere"]},
            "rank 1: elsewhere: no such dataset folder; make one with hzlm prepare",
        ),
        ([PIPE], {0: ["data.path=elsewhere"]}, "elsewhere: no such dataset folder; make one with hzlm prepare"),
    ],
)
def test_what_one_rank_cannot_do_is_told_once_and_ends_all(
    config: Path, tmp_path: Path, overrides: list[str], of_rank: dict[int, list[str]], wanted: str
) -> None:
    with started(config, f"train.output={tmp_path / 'run'}", *overrides, of_rank=of_rank) as crew:
        assert crew.wait() == [2, 2]
        assert crew.complaints() == [f"hzlm: error: {wanted}"]
    assert not (tmp_path / "run").exists()


def test_a_killed_rank_ends_the_others_and_the_run_goes_on(config: Path, straight: Path, tmp_path: Path) -> None:
    """First the last rank, then the first one, which the others have found each other through."""
    folder = tmp_path / "killed"
    for victim, step in ((1, 4), (0, 9)):
        with started(config, PIPE, f"train.output={folder}") as crew:
            wait_for_step(folder, step, crew)
            crew.processes[victim].kill()
            start = time.monotonic()
            status = crew.processes[1 - victim].wait(timeout=60)
            assert time.monotonic() - start < 20, "it does not wait for the half minute to pass"
            assert status == 1
            (line,) = crew.complaints()
            assert line.startswith("hzlm: error: another rank has ended or did not answer within 0.5 minutes (")
            assert line.endswith("start the run again: it goes on from its last checkpoint")
        assert not any(line["step"] == STEPS for line in read_metrics(folder)), "it was killed before its end"
    with started(config, PIPE, f"train.output={folder}") as crew:
        assert crew.wait() == [0, 0]
        assert crew.complaints() == []
    assert_equal_runs(folder, straight)


@pytest.mark.slow
def test_a_rank_that_stands_still_is_given_up(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "still"
    with started(config, PIPE, f"train.output={folder}", "parallel.timeout_minutes=0.1") as crew:
        wait_for_step(folder, 3, crew)
        crew.processes[0].send_signal(signal.SIGSTOP)
        start = time.monotonic()
        assert crew.processes[1].wait(timeout=60) == 1
        assert time.monotonic() - start < 6 + 9
        (line,) = crew.complaints()
        assert line.startswith("hzlm: error: another rank has ended or did not answer within 0.1 minutes (")


def test_a_signal_to_one_rank_stops_all_behind_the_same_step(config: Path, straight: Path, tmp_path: Path) -> None:
    """Rank 1 gets it, rank 0 tells of it."""
    folder = tmp_path / "stopped"
    with started(config, PIPE, f"train.output={folder}") as crew:
        wait_for_step(folder, 4, crew)
        crew.processes[1].send_signal(signal.SIGTERM)
        assert crew.wait() == [143, 143]
        (line,) = crew.complaints()
    step = read_history(folder)[-1]["step"]
    assert 4 <= step < STEPS
    assert line == (
        f"hzlm: stopped by SIGTERM after step {step} of {STEPS}; {folder}/checkpoints/step_{step:08d} is whole, and "
        "the same command goes on from there"
    )
    with started(config, PIPE, f"train.output={folder}") as crew:
        assert crew.wait() == [0, 0]
    assert_equal_runs(folder, straight)


@pytest.mark.slow
def test_torchrun_starts_it(config: Path, straight: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torchrun"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "hzlm.cli", "train", str(config), PIPE, f"train.output={folder}"]
    done = subprocess.run(command, env=fresh_environment() | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_equal_runs(folder, straight)
