"""Functions that are run by ranks in processes of their own, and what becomes of ranks that fail."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch import distributed

from hzlm.launch.processes import run_ranks

LONG = 600.0
"""Seconds that no test waits for."""


def meet(text: str) -> tuple[int, int, float, str]:
    """What a rank is told by the environment and by the others. The first one is the last to come to its end."""
    distributed.init_process_group("gloo")
    try:
        rank, ranks = distributed.get_rank(), distributed.get_world_size()
        found = torch.tensor(10.0**rank)
        distributed.all_reduce(found)
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
    time.sleep(0.1 * (ranks - rank))
    return int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]), float(found), f"{text} {rank}"


def sign_in(folder: Path, ranks: int) -> int:
    """Leaves this process's id in a folder, waits until all have done so, returns the rank."""
    rank = int(os.environ["RANK"])
    draft = folder / f"draft-{rank}"
    draft.write_text(str(os.getpid()))
    draft.rename(folder / f"rank-{rank}")
    while len(list(folder.glob("rank-*"))) < ranks:
        time.sleep(0.01)
    return rank


def go_wrong(folder: Path, how: str) -> str:
    """Of three ranks the second goes wrong; the first has come to its end then, the third would go on for long."""
    rank = sign_in(folder, 3)
    if rank == 0:
        return "done"
    if rank == 1:
        time.sleep(0.3)
        if how == "raise":
            raise KeyError("planted mistake")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(7)
    time.sleep(LONG)
    return "never"


def stay(folder: Path, seconds: tuple[float, ...]) -> None:
    """Each rank for its time."""
    time.sleep(seconds[sign_in(folder, len(seconds))])


def assert_all_ended(folder: Path, ranks: int) -> None:
    """None of the processes that have signed in is left."""
    processes = [int(path.read_text()) for path in folder.glob("rank-*")]
    assert len(processes) == ranks
    assert [process for process in processes if psutil.pid_exists(process)] == []


@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_find_each_other_and_their_results_come_in_order(ranks: int) -> None:
    expected = [(rank, ranks, float("1" * ranks), f"hello {rank}") for rank in range(ranks)]
    assert run_ranks(meet, ranks, "hello") == expected


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("raise", r"(?s)^rank 1 raised:\nTraceback .* in go_wrong\n.*KeyError: 'planted mistake'"),
        ("kill", r"^rank 1 was killed \(SIGKILL\)$"),
        ("exit", r"^rank 1 ended with status 7$"),
    ],
)
def test_a_rank_that_goes_wrong_is_named_and_ends_all(tmp_path: Path, how: str, complaint: str) -> None:
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=complaint):
        run_ranks(go_wrong, 3, tmp_path, how)
    assert time.monotonic() - start < LONG / 4
    assert_all_ended(tmp_path, 3)


def test_ranks_that_take_too_long_are_named_and_killed(tmp_path: Path) -> None:
    """The time begins with the call, however late others have come to their end."""
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"not come to their end within 3 s: (1, )?2$"):
        run_ranks(stay, 3, tmp_path, (0.0, 1.0, 3.6), seconds=3.0)
    assert time.monotonic() - start < LONG / 4
    assert_all_ended(tmp_path, 3)
