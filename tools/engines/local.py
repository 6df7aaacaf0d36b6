"""Runs the tasks of a stage in processes of this machine.

The processes are forked by Python's fork server, which has one thread, so that no lock is ever copied in a held state.
Each has a pipe of its own: the end of a process, however it came, is the end of its pipe, and tells which task it was
at.
"""

import os
import pickle
import signal
import sys
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from queue import SimpleQueue
from threading import Thread

from tqdm import tqdm

from hzlm.errors import UserError
from hzlm.launch.fork_server import fork_server_context
from hzlm.tools.engines.engine import ATTEMPTS, Task


class LocalEngine:
    """An `hzlm.tools.engines.engine.Engine` on this machine.

    A process works through many tasks and keeps what it has loaded meanwhile. All end with the run, and also when the
    process that runs them is killed.

    Args:
        workers: processes at once.
        preload: modules that the fork server imports once for all processes. It starts with the first run of this
            process and ends with this process, so that later lists change nothing.

    Raises:
        UserError: there are no workers.
    """

    def __init__(self, workers: int, preload: Sequence[str] = ()) -> None:
        if workers < 1:
            raise UserError(f"workers is {workers}, but at least 1 process is needed")
        self._workers = workers
        self._preload = [__name__, *preload]

    def clear(self) -> None:
        """Nothing: the processes of a program that was killed have ended with it."""

    def run(
        self,
        name: str,
        task: Task,
        pending: Sequence[int],
        done: Callable[[int], bool],
        advance: Callable[[], None],
    ) -> None:
        """As `Engine.run` says."""
        waiting = deque(pending)
        deaths: Counter[int] = Counter()
        crew: list[_Worker] = []
        context = fork_server_context(self._preload)
        try:
            while waiting or crew:
                while waiting and len(crew) < self._workers:
                    crew.append(_Worker(task, context))
                    crew[-1].begin(waiting.popleft())
                ready = wait([worker.connection for worker in crew])
                for worker in [worker for worker in crew if worker.connection in ready]:
                    finished = worker.finish()
                    if finished and waiting:
                        worker.begin(waiting.popleft())
                    else:
                        crew.remove(worker)
                        worker.dismiss()
                    if finished or done(worker.number):
                        advance()
                        continue
                    deaths[worker.number] += 1
                    _tell(name, worker, deaths[worker.number])
                    waiting.append(worker.number)  # last, when less may run beside it
        finally:
            for worker in crew:
                worker.kill()


class _Worker:
    """A process, and the number of the task that it was given last."""

    def __init__(self, task: Task, context: ForkServerContext) -> None:
        self.connection, far = Pipe()
        self._task = task
        self._process = context.Process(target=_work, args=(far,), daemon=True)
        self._process.start()
        far.close()

    def begin(self, number: int) -> None:
        """Gives it a task; whether that arrives shows when it answers, or does not."""
        self.number = number
        with suppress(ConnectionError):
            self.connection.send_bytes(pickle.dumps((self._task, number)))

    def finish(self) -> bool:
        """Takes its answer; False where it has ended instead. Raises what the task raised."""
        try:
            error = self.connection.recv()
        except (EOFError, ConnectionError):
            return False
        if error is not None:
            raise error
        return True

    def dismiss(self) -> None:
        """Lets it end, and waits for that."""
        self.connection.close()
        self._process.join()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self.dismiss()

    @property
    def ending(self) -> str:
        """How it ended."""
        status = self._process.exitcode
        return f"killed ({signal.Signals(-status).name})" if status and status < 0 else f"ended (status {status})"


def _tell(name: str, worker: _Worker, deaths: int) -> None:
    what = f"{name}: the process of task {worker.number} was {worker.ending}"
    if deaths == ATTEMPTS:
        remedy = "most often memory runs out: use fewer workers, or more memory"
        raise UserError(f"{what}, {deaths} times by now; {remedy}")
    tqdm.write(f"{what}; the task is redone", file=sys.stderr)


def _work(connection: Connection) -> None:
    """What a process does: it answers each task with None, or with the exception that the task raised."""
    messages: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(connection, messages), daemon=True).start()
    while True:
        answer = None
        try:
            task, number = pickle.loads(messages.get())
            task(number)
        except Exception as error:
            answer = _portable(error)
        connection.send(answer)


def _listen(connection: Connection, messages: "SimpleQueue[bytes]") -> None:
    """Takes what comes, and ends this process, whatever it is at, when the one that runs it is gone."""
    with suppress(EOFError, ConnectionError):
        while True:
            messages.put(connection.recv_bytes())
    os._exit(0)


def _portable(error: Exception) -> Exception:
    """The exception with its traceback as a note, or where it cannot be pickled, one that says the same."""
    note = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error
