"""What DeepSpeed must find in the environment of a process that no launcher started, and in its build folder."""

import ctypes
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path

from hzlm.errors import UserError

SHARED_MEMORY_EXTENSION = "deepspeed_shm_comm"
"""DeepSpeed's CPU extension for ranks on one machine; compiled at the first start, 28 to 70 s on two cores."""

MALLOC_SETTINGS = {-4: 0, -1: 2**31 - 1, -2: 256 << 20}
"""Numbers of glibc's mallopt: M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD, and the values set."""


def single_process_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make DeepSpeed start in a process that no launcher started.

    Sets the rendezvous variables that are absent, with a port that is free now, and sees to it that the shared-memory
    extension does not hold up the start.

    Raises:
        UserError: a launcher started several processes; or as `prepare_extension`.
    """
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in alone.items():
        environment.setdefault(name, value)
    if "MASTER_PORT" not in environment:
        environment["MASTER_PORT"] = str(_free_port())
    if environment["WORLD_SIZE"] != "1":
        raise UserError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']}, but training runs in one process; start it without a launcher"
        )
    prepare_extension(1)


def prepare_extension(world_size: int, folder: Path | None = None) -> None:
    """Make sure that starting DeepSpeed neither compiles what a lone process never uses nor waits for a dead build.

    Args:
        world_size: number of processes of the run.
        folder: where the extension is built; None stands for torch's own folder.

    Raises:
        UserError: a build that was killed left its lock, on which every start would wait for ever.
    """
    if world_size == 1 and _skip_extension():
        return
    lock = (folder or _build_folder()) / "lock"
    if lock.exists() and not _is_held(lock):
        raise UserError(f"{lock}: a killed build left this lock, and every start waits on it; delete the file")


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of giving its pages back, only to fetch and clear them again.

    A training step frees and takes the same large tensors over and over; without this, page faults cost a tenth of
    the step and more. Other C libraries have no such setting and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in MALLOC_SETTINGS.items():
            mallopt(parameter, value)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _skip_extension() -> bool:
    """Mark the extension as unavailable; False where this DeepSpeed has no such mark, and will build."""
    import deepspeed.ops

    compatible = getattr(deepspeed.ops, "__compatible_ops__", None)
    if not isinstance(compatible, dict) or SHARED_MEMORY_EXTENSION not in compatible:
        return False
    compatible[SHARED_MEMORY_EXTENSION] = False
    return True


def _build_folder() -> Path:
    from torch.utils.cpp_extension import _get_build_directory

    return Path(_get_build_directory(SHARED_MEMORY_EXTENSION, verbose=False))


def _is_held(lock: Path) -> bool:
    """Whether a process of this machine has the lock open, as the one that builds does until it is done."""
    import psutil

    for process in psutil.process_iter():
        try:
            if any(Path(file.path) == lock.resolve() for file in process.open_files()):
                return True
        except psutil.Error:
            continue
    return False
