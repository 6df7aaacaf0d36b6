"""A program that runs commands of hzlm in processes of their own without importing everything for each of them.

It reads one JSON object a line: "arguments" of the command; "log", the file for its output; optionally "kill", how it
shall die (see `kill_at`), and "largest_file", RLIMIT_FSIZE in bytes. It answers with the process id, and with the exit
status as `subprocess` gives it, a line each.
"""

import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

from hzlm import cli


def kill_at(functions: list[str], call: int, after: bool, about: str = "") -> None:
    """Lets this process kill itself in the call of that number, from 1 on, of any of the functions.

    Args:
        functions: as in `os:fsync`.
        call: which one.
        after: whether the function does its work first.
        about: only calls with an argument that holds this text are counted.
    """
    calls = count(1)

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            counted = not about or any(about in str(argument) for argument in arguments)
            mine = next(calls) if counted else 0
            result = function(*arguments, **options) if mine != call or after else None
            if mine == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapper

    for name in functions:
        owner = pkgutil.resolve_name(name.rpartition("." if "." in name.partition(":")[2] else ":")[0])
        attribute = name.replace(":", ".").rpartition(".")[2]
        setattr(owner, attribute, wrap(getattr(owner, attribute)))


def run(order: dict[str, Any]) -> None:
    """What the child does; it never returns."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    if "kill" in order:
        kill_at(**order["kill"])
    if "largest_file" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"], resource.RLIM_INFINITY))
    status = 70
    try:
        status = cli.main(order["arguments"])
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    """Until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # DeepSpeed greets on standard output
    importlib.import_module("hzlm.train.run")
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            run(order)
        print(child, file=answers, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    serve()
