"""What DeepSpeed must find in the environment of a process, and in its build folder."""

import ctypes
import os
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from hzlm.errors import UserError

SHARED_MEMORY_EXTENSION = "deepspeed_shm_comm"
"""DeepSpeed's CPU extension for inference by ranks of one machine; compiled at the first start, 28 to 70 s on two
cores. Training calls nothing of it (deepspeed.comm.torch: only `inference_all_reduce` does)."""

MALLOC_SETTINGS = {-4: 0, -1: 2**31 - 1, -2: 256 << 20}
"""Numbers of glibc's mallopt: M_MMAP_MAX, M_TRIM_THRESHOLD and M_TOP_PAD, and the values set."""


def complete_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Says how the processes of a run find each other, where no launcher has: then this one is alone.

    A launcher has set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun does.

    Raises:
        UserError: some of these are set, and do not fit together.
    """
    numbers = {name: _whole_number(name, environment) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    rank, world = numbers["RANK"] or 0, numbers["WORLD_SIZE"] or 1
    if world > 1:
        missing = [name for name in (*numbers, "MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
        if missing:
            raise UserError(f"WORLD_SIZE is {world}, but {', '.join(missing)} is not set; start with a launcher")
    if rank >= world:
        raise UserError(f"RANK is {rank}, but WORLD_SIZE is {world}; start with a launcher, or unset both")
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in alone.items():
        environment.setdefault(name, value)
    if "MASTER_PORT" not in environment:
        environment["MASTER_PORT"] = str(free_port())


def is_first_process(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is rank 0, which speaks for all, as far as a launcher has said anything."""
    return environment.get("RANK", "0") == "0"


def _whole_number(name: str, environment: Mapping[str, str]) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r} in the environment, not a whole number; start with a launcher")
    return int(text)


def skip_extension(folder: Path | None = None) -> None:
    """Make sure that starting DeepSpeed neither compiles what training never uses nor waits for a dead build.

    Args:
        folder: where the extension is built; None stands for torch's own folder.

    Raises:
        UserError: this DeepSpeed builds it all the same, and a build that was killed left its lock, on which every
            start would wait for ever.
    """
    if _mark_as_unavailable():
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


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _mark_as_unavailable() -> bool:
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
