"""How the processes of a run find each other, and what they must have in common."""

import atexit
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed import distributed_c10d

from hzlm.errors import UserError, share
from hzlm.launch.environment import complete_environment, skip_extension
from hzlm.parallel.collectives import gather_objects
from hzlm.parallel.mesh import Axis, Mesh, make_mesh
from hzlm.parallel_config import ParallelConfig, check_world


def connect(config: ParallelConfig) -> Mesh:
    """Connects this process with the others of its run, as the environment names them; a collective call of all.

    Raises:
        UserError: on all ranks: they have different layouts, or are more or fewer than their layout needs.
        ConnectionError: they do not find each other in time.
    """
    complete_environment()
    skip_extension()
    device = _choose_device()
    with lost_ranks_explained(config):
        if not distributed.is_initialized():
            _meet(config, device)
        world = Axis(distributed.get_world_size(), distributed.get_rank())
        # before anything that ranks of other layouts would do otherwise, and wait for in vain
        layout = {f"parallel.{name}": value for name, value in config.model_dump(mode="json").items()}
        compare(layout, world)
        try:
            check_world(config, world.size)
        except UserError as error:
            raise share(error) from None
        mesh = make_mesh(config.pipe, config.data, config.tensor, config.sequence_parallel, device)
    limit_waiting(config)
    return mesh


def _meet(config: ParallelConfig, device: torch.device) -> None:
    on_gpu = device.type == "cuda"
    # a process on its own needs no port, which another program may take between its choice and its use
    alone: dict[str, Any] = {"store": distributed.HashStore(), "rank": 0, "world_size": 1}
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        **(alone if os.environ["WORLD_SIZE"] == "1" else {}),
        timeout=timedelta(minutes=config.timeout_minutes),
        device_id=device if on_gpu else None,
    )
    atexit.register(_disconnect)


def _choose_device() -> torch.device:
    """The GPU of this process's number on its machine, or the only one that it sees; the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count > 1:
        raise UserError(f"LOCAL_RANK is {number}, but this process sees {count} GPUs; start one process a GPU")
    device = torch.device("cuda", number if count > 1 else 0)
    torch.cuda.set_device(device)
    return device


def _disconnect() -> None:
    """Ends the threads of gloo: one that meets the end of Python while it runs aborts the process, and its status."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def limit_waiting(config: ParallelConfig) -> None:
    """Sets how long this rank waits for others, in all groups there are by now, DeepSpeed's too.

    A new group has a default of torch's, up to half an hour, whatever was given to init_process_group.
    """
    for group in list(distributed_c10d._world.pg_map):
        distributed_c10d._set_pg_timeout(timedelta(minutes=config.timeout_minutes), group)


def compare(facts: Mapping[str, Any], axis: Axis) -> None:
    """Raises UserError on all ranks of an axis unless they agree on some facts; a collective call of all.

    Args:
        facts: what each rank has, by name; picklable, small.
        axis: the ranks.
    """
    first, *others = gather_objects(dict(facts), axis)
    for rank, theirs in enumerate(others, start=1):
        for name in sorted(first.keys() | theirs.keys()):
            if first.get(name) != theirs.get(name):
                raise share(
                    UserError(
                        f"rank {rank} has {name} = {theirs.get(name)}, but rank 0 has {first.get(name)}; "
                        "start all ranks with the same config, data and versions"
                    )
                )


@contextmanager
def lost_ranks_explained(config: ParallelConfig) -> Iterator[None]:
    """Says in one line what torch.distributed means by its errors: another rank has ended, or does not answer."""
    try:
        yield
    except (distributed.DistError, RuntimeError) as error:
        if not _is_of_communication(error):
            raise
        reason = str(error).splitlines()[0].strip()
        raise ConnectionError(
            None,
            f"another rank has ended or did not answer within {config.timeout_minutes:g} minutes ({reason}); "
            "see what it says, then start the run again: it goes on from its last checkpoint",
        ) from error


def _is_of_communication(error: BaseException) -> bool:
    if isinstance(error, distributed.DistNetworkError | distributed.DistStoreError | distributed.DistBackendError):
        return True
    text = str(error)
    return any(mark in text for mark in ("gloo", "Gloo", "NCCL", "Connection closed by peer", "timeout waiting for"))
