"""Python's fork server: processes that begin with its modules imported, and share what these hold.

It has one thread of Python, so that no lock is ever copied in a held state, and sees no GPU, which a process that is
forked from one that has looked for it could not use. It starts with the first call and ends with this
process: the modules that later calls name change nothing.
"""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def fork_server_context(preload: Sequence[str]) -> ForkServerContext:
    """The context of the fork server, which is started where none runs.

    Ctrl-C, which reaches all processes of a terminal, is blocked in it and in what it forks.

    Args:
        preload: modules that the fork server imports once for all of its processes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *preload])
    resource_tracker.ensure_running()  # the fork server needs it; to start it later would end the blocking
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    visible = os.environ.get(VISIBLE_GPUS)
    os.environ[VISIBLE_GPUS] = ""
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if visible is None:
            del os.environ[VISIBLE_GPUS]
        else:
            os.environ[VISIBLE_GPUS] = visible
    return context
