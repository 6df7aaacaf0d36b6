"""What runs the tasks of a stage."""

from collections.abc import Callable, Sequence
from typing import Protocol

ATTEMPTS = 3
"""So often a task is tried whose process is killed."""

Task = Callable[[int], None]
"""What does the task of a number: a function of a module, or a partial of one."""


class Engine(Protocol):
    """Runs independent tasks in other processes, and each to its end, whatever is killed meanwhile."""

    def clear(self) -> None:
        """Ends what a program that was killed has left running, of whatever stage, and waits for that end.

        To be called before the first `run`, and before anything that such leftovers read or write is changed.

        Raises:
            UserError: what there is cannot be found out.
        """

    def run(
        self,
        name: str,
        task: Task,
        pending: Sequence[int],
        done: Callable[[int], bool],
        advance: Callable[[], None],
    ) -> None:
        """Runs `task(number)` for every pending number and returns when all are done.

        Where a process is killed, what it was at is redone, but not what `done` says is done.

        Args:
            name: of the stage, for messages; letters, digits, - and _.
            task: it may be killed at any moment, and is then called again with the same number.
            pending: different numbers.
            done: whether the task of a number has come to its end; picklable as `task` is.
            advance: called once for every task that was done.

        Raises:
            UserError: a task's process was killed `ATTEMPTS` times.
            Exception: the first that a task raised; what runs is then stopped, and nothing more begun.
        """
