"""Runs the tasks of a stage on a Slurm cluster, through submitit.

Each job has its share of the tasks and works through them as `LocalEngine` does. A job that leaves the queue with tasks
undone was killed, and is followed by another one with just these. What is asked is the queue and the tasks themselves:
not accounting, which many clusters lack, nor the job's own files, which a killed job does not write.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError
from tqdm import tqdm

from hzlm.errors import UserError
from hzlm.tools.engines.engine import ATTEMPTS, Task
from hzlm.tools.engines.local import LocalEngine
from hzlm.tools.engines.slurm_config import SlurmConfig

COMMANDS = ("sbatch", "squeue", "scancel")


class SlurmEngine:
    """An `hzlm.tools.engines.engine.Engine` on a Slurm cluster.

    Where the run is stopped or fails, its jobs are cancelled. Where its process is killed they go on, until
    `clear` is called for the same folder. Two runs at once are the caller's to prevent.

    Args:
        config: what the jobs look like.
        folder: for logs, one folder a stage; every node must see it under the same path.
        preload: as for `LocalEngine`, in the jobs.

    Raises:
        UserError: there is no Slurm on this machine.
    """

    def __init__(self, config: SlurmConfig, folder: Path, preload: Sequence[str] = ()) -> None:
        for command in COMMANDS:
            if shutil.which(command) is None:
                raise UserError(
                    f"slurm: {command} is not found; start on a machine of the cluster, where jobs are sent"
                )
        self._config = config
        self._folder = folder.resolve()
        self._preload = tuple(preload)
        self._queue = _Queue(self._folder, config.poll_seconds)

    def clear(self) -> None:
        """As `Engine.clear` says."""
        self._queue.clear()

    def run(
        self,
        name: str,
        task: Task,
        pending: Sequence[int],
        done: Callable[[int], bool],
        advance: Callable[[], None],
    ) -> None:
        """As `Engine.run` says."""
        if not pending:
            return
        job_name = self._queue.name_of(name)
        work = _Work(name, task, done, self._config.cpus, self._preload)
        sender = _Sender(self._config, job_name, self._folder / name, work)
        try:
            shares = sender.send_all(pending)
            tqdm.write(f"{name}: {len(shares)} Slurm jobs, which log in {self._folder / name}", file=sys.stderr)
            undone = set(pending)
            while undone:
                # The queue first: of a job that has left it, all that it will ever write is there.
                queued = self._queue.jobs()
                for number in [number for number in pending if number in undone and done(number)]:
                    undone.remove(number)
                    advance()
                for share in [share for share in shares if share.job.job_id not in queued]:
                    shares.remove(share)
                    if left := sender.rest_of(share, undone):
                        shares.append(left)
                if undone:
                    time.sleep(self._config.poll_seconds)
        except BaseException:
            self._queue.cancel(job_name)
            raise


@dataclass(frozen=True)
class _Work:
    """What a job does with its share of a stage."""

    name: str
    task: Task
    done: Callable[[int], bool]
    workers: int
    preload: tuple[str, ...]

    def __call__(self, numbers: Sequence[int]) -> Exception | None:
        """The first error, as a value, because submitit keeps no more than the text of one that is raised."""
        # submitit lets jobs live on after the one, and has them requeued by the other
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        pending = [number for number in numbers if not self.done(number)]
        try:
            LocalEngine(self.workers, self.preload).run(self.name, self.task, pending, self.done, lambda: None)
        except Exception as error:
            return error
        return None


@dataclass(frozen=True)
class _Share:
    """A job and the tasks that it was given."""

    job: "submitit.Job[Exception | None]"
    numbers: Sequence[int]
    fruitless: int = 0
    """So many jobs before it were killed, one after the other, without an end of any of these tasks."""


class _Sender:
    """Sends jobs, and others for what they leave undone."""

    def __init__(self, config: SlurmConfig, job_name: str, folder: Path, work: _Work) -> None:
        self._jobs, self._cpus = config.jobs, config.cpus
        self._work = work
        self._executor = submitit.SlurmExecutor(folder)
        options = {name: True if value == "" else value for name, value in config.options.items()}
        self._executor.update_parameters(
            job_name=job_name,
            partition=config.partition,
            account=config.account,
            time=config.minutes,
            cpus_per_task=config.cpus,
            mem=config.memory,
            setup=list(config.setup),
            array_parallelism=config.jobs,
            wckey=None,
            use_srun=False,
            # A job that Slurm begins again by itself is one that nobody counts.
            additional_parameters=options | {"no-requeue": True},
        )

    def send_all(self, numbers: Sequence[int]) -> list[_Share]:
        """Shares out the tasks, so that neighbours come to different jobs."""
        jobs = min(self._jobs, -(-len(numbers) // self._cpus))
        return self._send([list(numbers[start::jobs]) for start in range(jobs)])

    def rest_of(self, share: _Share, undone: set[int]) -> _Share | None:
        """Sends what a job that has left the queue did not do; None where it did everything. Raises what it raised."""
        log = share.job.paths.stderr
        where = f"{self._work.name}: Slurm job {share.job.job_id}"
        if share.job.paths.result_pickle.exists():
            try:
                error = share.job.result()
            except FailedJobError as failure:
                raise UserError(f"{where} could not begin its tasks: {_last_line(log)}; see {log}") from failure
            if error is not None:
                raise error
        left = [number for number in share.numbers if number in undone]
        if not left:
            return None
        fruitless = share.fruitless + 1 if len(left) == len(share.numbers) else 0
        tasks = f"task {left[0]}" + (f" and {len(left) - 1} more" if len(left) > 1 else "")
        if fruitless == ATTEMPTS:
            raise UserError(
                f"{where} was the {ATTEMPTS}. that was killed with nothing done of {tasks}: {_last_line(log)}; "
                f"give the jobs more memory or time, or see {log}"
            )
        tqdm.write(f"{where} was killed ({_last_line(log)}); {tasks} sent again", file=sys.stderr)
        return self._send([left], fruitless)[0]

    def _send(self, shares: Sequence[Sequence[int]], fruitless: int = 0) -> list[_Share]:
        try:
            jobs = self._executor.map_array(self._work, shares)
        except FailedJobError as error:
            said = "; ".join(line.removeprefix("sbatch: error: ") for line in str(error).splitlines())
            raise UserError(f"slurm: sbatch takes no jobs: {said}; mend the settings of Slurm") from error
        return [_Share(job, numbers, fruitless) for job, numbers in zip(jobs, shares, strict=True)]


class _Queue:
    """The jobs of a run in Slurm's queue, known by names that are made of its folder and their stage."""

    def __init__(self, folder: Path, poll_seconds: float) -> None:
        self._digest = hashlib.sha256(bytes(folder)).hexdigest()[:12]
        self._user = f"--user={os.getuid()}"
        self._poll_seconds = poll_seconds

    def name_of(self, stage: str) -> str:
        """What the jobs of a stage are called."""
        return f"hzlm-{stage}-{self._digest}"

    def jobs(self) -> dict[str, str]:
        """Number, as in 12 or 12_3, -> name of those of all stages. Waits for a queue that does not answer."""
        told = False
        while (answer := self._ask()).returncode:
            if not told:
                tqdm.write(f"slurm: squeue fails ({_one_line(answer)}); still asking", file=sys.stderr)
                told = True
            time.sleep(self._poll_seconds)
        return self._ours(answer)

    def clear(self) -> None:
        """Cancels what a run that was killed has left, and waits for its end."""
        answer = self._ask()
        if answer.returncode:
            raise UserError(f"slurm: squeue fails ({_one_line(answer)}); is this machine part of a running cluster?")
        names = sorted(set(self._ours(answer).values()))
        for name in names:
            tqdm.write(f"slurm: jobs of a run that was killed are cancelled ({name})", file=sys.stderr)
            self.cancel(name)
        while names and self.jobs():
            time.sleep(self._poll_seconds)

    def cancel(self, name: str) -> None:
        """Ends all jobs of a name, those that wait and those that run."""
        answer = subprocess.run(["scancel", f"--name={name}", self._user], capture_output=True, text=True)
        if answer.returncode:
            tqdm.write(f"slurm: scancel --name={name} fails ({_one_line(answer)}); do it later", file=sys.stderr)

    def _ask(self) -> "subprocess.CompletedProcess[str]":
        command = ["squeue", "--noheader", "--array", "--format=%i %j", self._user]
        return subprocess.run(command, capture_output=True, text=True)

    def _ours(self, answer: "subprocess.CompletedProcess[str]") -> dict[str, str]:
        """Of what squeue says of this user's jobs."""
        found = (line.partition(" ") for line in answer.stdout.splitlines())
        pattern = self.name_of(r"[\w-]+")
        return {number: name for number, _, name in found if re.fullmatch(pattern, name)}


def _one_line(answer: "subprocess.CompletedProcess[str]") -> str:
    return "; ".join(answer.stderr.split("\n")).strip("; ") or f"status {answer.returncode}"


def _last_line(log: Path) -> str:
    """What a job's log says last."""
    lines = log.read_text("utf-8", "replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no word in its log")
