"""A function run by several ranks, each a process of this machine: what tests and measurements of layouts need.

Training itself is started by a launcher (`hzlm.launch.environment` says what it must have set).
"""

import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from hzlm.launch.environment import free_port, skip_extension
from hzlm.launch.fork_server import fork_server_context

T = TypeVar("T")

PRELOAD = ("hzlm.train.run", "deepspeed.runtime.zero.muon.muon_optimizer")
"""What takes the ranks seconds to import; the fork server does it once. DeepSpeed imports the second one, and all of
torch's compiler with it, as it starts an engine; where there is none, nothing happens."""


@dataclass(frozen=True)
class _Failure:
    """What a rank tells instead of a result."""

    text: str


def run_ranks(function: Callable[..., T], ranks: int, *arguments: Any, seconds: float = 300.0) -> list[T]:
    """Runs function(*arguments) on some ranks that can find each other through torch.distributed's environment.

    The cores of this machine are shared out among the ranks; they see no GPU.

    Args:
        function: of a module, so that it can be found by its name; it calls init_process_group itself.
        ranks: processes.
        arguments: for every rank the same; picklable.
        seconds: after which all ranks are killed.

    Returns:
        What each rank returned (picklable), by rank.

    Raises:
        RuntimeError: a rank raised an error, whose traceback is in the text, was killed, or has not come to its end
            in time. The other ranks are killed then.
    """
    context = fork_server_context(PRELOAD)
    port = free_port()
    end = time.monotonic() + seconds
    crew: list[tuple[Connection, Any]] = []
    try:
        for rank in range(ranks):
            near, far = Pipe(duplex=False)
            process = context.Process(target=_play, args=(far, rank, ranks, port, function, arguments), daemon=True)
            process.start()
            far.close()
            crew.append((near, process))
        results: dict[int, T] = {}
        while len(results) < ranks:
            waiting = [rank for rank in range(ranks) if rank not in results]
            ready = wait([crew[rank][0] for rank in waiting], max(0.0, end - time.monotonic()))
            if not ready:
                late = ", ".join(map(str, waiting))
                raise RuntimeError(f"ranks that have not come to their end within {seconds:.0f} s: {late}")
            for rank in waiting:
                if crew[rank][0] in ready:
                    results[rank] = _result(rank, *crew[rank])
        return [results[rank] for rank in range(ranks)]
    finally:
        for _, process in crew:
            process.kill()
        for near, process in crew:
            process.join()
            near.close()


def _result(rank: int, connection: Connection, process: Any) -> Any:
    try:
        found = connection.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"rank {rank} {_describe_end(process.exitcode)}") from None
    if isinstance(found, _Failure):
        raise RuntimeError(f"rank {rank} raised:\n{found.text}")
    return found


def _describe_end(status: int | None) -> str:
    return f"was killed ({signal.Signals(-status).name})" if status and status < 0 else f"ended with status {status}"


def _play(
    connection: Connection, rank: int, ranks: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """What the process of a rank does."""
    import torch

    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
    skip_extension()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))
    try:
        outcome = function(*arguments)
    except BaseException:
        outcome = _Failure(traceback.format_exc())
    connection.send(outcome)
