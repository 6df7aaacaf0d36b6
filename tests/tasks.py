"""Tasks for engines: what they do stands in a folder afterwards."""

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil


def note(folder: Path, number: int, seconds: float = 0.0) -> None:
    """Notes that the task has begun, takes its time, and writes where it was done."""
    begin(folder, number)
    time.sleep(seconds)
    finish(folder, number)


def begin(folder: Path, number: int) -> None:
    """Adds a line to a file: one for each time that the task is begun."""
    with (folder / f"{number}.begun").open("a") as file:
        file.write(f"{os.getpid()}\n")


def finish(folder: Path, number: int) -> None:
    """Writes the process and the node of Slurm that it was done on; appears whole."""
    partial = folder / f"{number}.partial"
    partial.write_text(f"{os.getpid()} {os.environ.get('SLURMD_NODENAME')}")
    partial.rename(folder / f"{number}.done")


def done(folder: Path, number: int) -> bool:
    """Whether `finish` was reached."""
    return (folder / f"{number}.done").exists()


def starts(folder: Path) -> Counter[int]:
    """How often each task was begun."""
    return Counter({int(path.stem): len(path.read_text().splitlines()) for path in folder.glob("*.begun")})


def begun_by(folder: Path, number: int) -> list[int]:
    """The processes that began a task."""
    return [int(line) for line in (folder / f"{number}.begun").read_text().split()]


def running(folder: Path) -> list[int]:
    """The processes that began tasks and are still there."""
    return [pid for number in starts(folder) for pid in begun_by(folder, number) if psutil.pid_exists(pid)]


def die(folder: Path, number: int, victim: int, times: int, late: bool = False) -> None:
    """As `note`, but in the first `times` attempts the victim's process is killed before its end, or `late`, after."""
    begin(folder, number)
    if late:
        finish(folder, number)
    if number == victim and starts(folder)[number] <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    finish(folder, number)


def job_number() -> str:
    """The number of the Slurm job that this process works for, as its commands take it."""
    array, element = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    return f"{array}_{element}" if array else os.environ["SLURM_JOB_ID"]


def kill_job(folder: Path, number: int, victim: int, times: int, cancel: bool = False) -> None:
    """As `die`, but what dies is the process of the job that this one works for, or the whole job is cancelled."""
    begin(folder, number)
    if number == victim and starts(folder)[number] <= times:
        if cancel:
            subprocess.run(["scancel", job_number()], check=True)
        else:
            psutil.Process().parents()[1].kill()  # the fork server lies between
        time.sleep(60)
    time.sleep(0.05)
    finish(folder, number)


def describe_job(folder: Path, number: int) -> None:
    """Writes what Slurm says of the job that it is in, and its environment."""
    command = ["scontrol", "show", "job", "--oneliner", job_number()]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (folder / "job").write_text(said + "\n".join(f"{name}={value}" for name, value in os.environ.items()))
    finish(folder, number)


def fail(folder: Path, number: int, victim: int, error: Exception) -> None:
    """As `note`, but the victim raises the error, and the others take a minute."""
    begin(folder, number)
    if number == victim:
        raise error
    time.sleep(60)


class UnportableError(Exception):
    """Cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def complain(error: type[Exception], arguments: tuple[str, ...], number: int) -> None:
    """Raises an error that is made here."""
    raise error(*arguments)


def leave(number: int, status: int) -> None:
    """Ends its process without a word."""
    os._exit(status)
