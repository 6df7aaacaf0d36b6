"""Jobs on a Slurm of two nodes that is started here: what is killed is redone, and nothing else."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import tasks
from hzlm.errors import UserError
from hzlm.tools.engines.engine import ATTEMPTS, Task
from hzlm.tools.engines.slurm import SlurmEngine
from hzlm.tools.engines.slurm_config import SlurmConfig
from slurm import NODES, PARTITION, Slurm, why_not
from tasks import describe_job, die, done, fail, finish, kill_job, note, running, starts

REASON = why_not()
on_slurm = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Two nodes of two CPUs."""
    with Slurm(cpus=2) as slurm, pytest.MonkeyPatch.context() as patch:
        # A job that is cancelled before it begins may leave its log where it was sent from.
        patch.chdir(tmp_path_factory.mktemp("sent_from"))
        for name, value in {**slurm.environment, "PYTHONPATH": str(Path(tasks.__file__).parent)}.items():
            patch.setenv(name, value)
        yield slurm
        slurm.wait_until_free()


def engine(folder: Path, **config: Any) -> SlurmEngine:
    """Up to two jobs of two processes each."""
    jobs = {"partition": PARTITION, "jobs": 2, "cpus": 2, "memory": "500M", "minutes": 5, "poll_seconds": 0.2}
    return SlurmEngine(SlurmConfig.model_validate_json(json.dumps(jobs | config)), folder / "logs")


def run(folder: Path, what: Task, pending: range = range(12), stage: str = "stage", **config: Any) -> int:
    """How often `advance` was called."""
    advanced: list[None] = []
    finished = partial(done, folder)
    left = [number for number in pending if not finished(number)]
    engine(folder, **config).run(stage, what, left, finished, partial(advanced.append, None))
    return len(advanced)


@on_slurm
def test_both_nodes_work_and_what_is_done_stays(slurm: Slurm, tmp_path: Path) -> None:
    finish(tmp_path, 3)
    assert run(tmp_path, partial(note, tmp_path, seconds=0.1)) == 11
    assert starts(tmp_path) == dict.fromkeys(set(range(12)) - {3}, 1)
    nodes = {(tmp_path / f"{number}.done").read_text().split()[1] for number in starts(tmp_path)}
    assert nodes == set(NODES)
    assert run(tmp_path, partial(note, tmp_path)) == 0


@on_slurm
@pytest.mark.slow
def test_a_killed_process_is_the_jobs_own_affair(slurm: Slurm, tmp_path: Path) -> None:
    assert run(tmp_path, partial(die, tmp_path, victim=5, times=1)) == 12
    assert starts(tmp_path) == dict.fromkeys(range(12), 1) | {5: 2}
    assert "the process of task 5 was killed (SIGKILL); the task is redone" in logs(tmp_path)


@on_slurm
@pytest.mark.parametrize("cancel", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_of_a_killed_job_only_the_rest_is_redone(
    slurm: Slurm, tmp_path: Path, cancel: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, partial(kill_job, tmp_path, victim=6, times=1, cancel=cancel)) == 12
    begun = starts(tmp_path)
    assert begun[6] == 2
    assert sum(begun.values()) - len(begun) <= 2, "what its two processes were at"
    assert all(begun[number] == 1 for number in range(1, 12, 2)), "the other job's"
    sent = [line for line in capsys.readouterr().err.splitlines() if "was killed" in line]
    assert len(sent) == 1
    assert ("CANCELLED" in sent[0]) == cancel, "the reason that Slurm gives"


@on_slurm
@pytest.mark.slow
def test_a_node_that_is_gone(slurm: Slurm, tmp_path: Path) -> None:
    """Slurm takes some seconds to find out."""
    with ThreadPoolExecutor() as pool:
        result = pool.submit(run, tmp_path, partial(note, tmp_path, seconds=2.0))
        while len(starts(tmp_path)) < 8:
            assert not result.done()
            time.sleep(0.05)
        slurm.kill_node(NODES[1])
        try:
            assert result.result(timeout=90) == 12
        finally:
            slurm.start_node(NODES[1])
    begun = starts(tmp_path)
    assert 1 <= sum(begun.values()) - len(begun) <= 2, "what its two processes were at"


@on_slurm
@pytest.mark.slow
def test_a_task_that_kills_every_job_is_named(slurm: Slurm, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^stage: Slurm job \d+ was the 3\. .* nothing done of task 1.*more memory"):
        run(tmp_path, partial(kill_job, tmp_path, victim=1, times=9), range(4))
    assert starts(tmp_path)[1] >= ATTEMPTS
    assert all(done(tmp_path, number) for number in (0, 2)), "the other job's"


@on_slurm
@pytest.mark.slow
def test_what_a_task_raises_stops_all_jobs(slurm: Slurm, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as raised:
        run(tmp_path, partial(fail, tmp_path, victim=1, error=UserError("a.txt: broken; mend it")))
    assert str(raised.value) == "a.txt: broken; mend it"
    slurm.wait_until_free()
    assert time.monotonic() - start < 20, "the others take a minute"
    assert not running(tmp_path)


@on_slurm
def test_what_slurm_refuses_is_one_line(slurm: Slurm, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^slurm: sbatch takes no jobs: .*[Ii]nvalid partition.*: nowhere"):
        run(tmp_path, partial(note, tmp_path), partition="nowhere")
    assert not starts(tmp_path)


@on_slurm
def test_a_job_that_cannot_begin_is_one_line(slurm: Slurm, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^stage: Slurm job \d+ was the 3\. .*: no modules here;"):
        run(tmp_path, partial(note, tmp_path), range(1), setup=["echo no modules here >&2; exit 1"])
    assert not starts(tmp_path)


@on_slurm
def test_every_setting_reaches_the_job(slurm: Slurm, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "account": "us",
        "memory": "123M",
        "minutes": 77,
        "options": {"comment": "some words", "exclusive": ""},
    }
    setup = ["export FROM_SETUP=1"]
    assert run(tmp_path, partial(describe_job, tmp_path), range(1), setup=setup, **settings) == 1
    said = (tmp_path / "job").read_text()
    for wanted in (
        "Account=us",
        "MinMemoryNode=123M",
        "TimeLimit=01:17:00",
        "Comment=some words",
        f"Partition={PARTITION}",
    ):
        assert wanted in said
    for wanted in ("CPUs/Task=2", "OverSubscribe=NO", "Requeue=0", "FROM_SETUP=1"):
        assert wanted in said


@on_slurm
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_the_run_itself_stopped_and_started_again(slurm: Slurm, tmp_path: Path, number: signal.Signals) -> None:
    """With another stage; what other folders have in the queue stays."""
    stranger = slurm.call(
        "sbatch", "--parsable", "--hold", "--job-name=hzlm-before-0123456789ab", "--wrap=true"
    ).strip()
    finish(tmp_path, 0)
    with subprocess.Popen([sys.executable, __file__, str(tmp_path)], stderr=subprocess.PIPE) as process:
        while len(running(tmp_path)) < 4:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
    assert process.returncode == -number
    if number == signal.SIGINT:
        while slurm.call("squeue", "--noheader", "--format=%i").split() != [stranger]:
            time.sleep(0.1)
    assert len(running(tmp_path)) == (0 if number == signal.SIGINT else 4), "its jobs go on"
    engine(tmp_path).clear()
    assert slurm.call("squeue", "--noheader", "--format=%i").split() == [stranger]
    slurm.call("scancel", stranger)
    assert not running(tmp_path)
    first = starts(tmp_path)
    assert run(tmp_path, partial(note, tmp_path)) == 11
    assert starts(tmp_path) == {task: 1 + first[task] for task in range(1, 12)}


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="sbatch is not found"):
        SlurmEngine(SlurmConfig(), tmp_path)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"memory": "much"}, "memory"),
        ({"jobs": 1001}, "jobs"),
        ({"options": {"job-name": "mine"}}, "job-name is set by hzlm itself"),
        ({"options": {"no_requeue": ""}}, "no_requeue is set by hzlm itself"),
        ({"partitions": "a"}, "partitions"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        SlurmConfig.model_validate(settings)


def logs(folder: Path) -> str:
    """All that the jobs wrote."""
    return "\n".join(path.read_text() for path in (folder / "logs").rglob("*.err"))


if __name__ == "__main__":
    run(Path(sys.argv[1]), partial(note, Path(sys.argv[1]), seconds=60.0), stage="before")
