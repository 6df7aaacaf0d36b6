"""What ranks do together or not at all: where one fails, all raise, and none waits for another in vain."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from hzlm.errors import UserError, share
from hzlm.parallel.collectives import gather_objects
from hzlm.parallel.mesh import Axis

T = TypeVar("T")


def on_every_rank(action: Callable[[], T], axis: Axis) -> list[T]:
    """Runs an action, which tells the ranks nothing itself, on every rank of the axis; all have to call this.

    Returns:
        What it returned (picklable, small) on each rank, by rank; on all of them.

    Raises:
        Exception: it failed on some rank: there its own error, elsewhere that of the first rank where it failed, with
            the number of the rank. UserError stays UserError, and an OSError keeps its number; both are marked as
            shared (`hzlm.errors.share`).
    """
    outcome: T | _Failure
    failure: Exception | None = None
    try:
        outcome = action()
    except Exception as error:
        failure = error
        outcome = _Failure.of(error)
    outcomes: list[T | _Failure] = gather_objects(outcome, axis)
    failures = {rank: found for rank, found in enumerate(outcomes) if isinstance(found, _Failure)}
    if not failures:
        return cast(list[T], outcomes)
    first = min(failures)
    if failure is None:
        raise failures[first].on_rank(first)
    raise share(failure) if failures[first].is_plain else failure


def on_first_rank(action: Callable[[], T], axis: Axis) -> T:
    """As `on_every_rank`, with the action run on rank 0 alone; returns on all what it returned there."""
    first = axis.index == 0
    return cast(T, on_every_rank(lambda: action() if first else None, axis)[0])


@dataclass(frozen=True)
class _Failure:
    """What is told of an error: exceptions themselves may not survive pickling."""

    kind: str
    text: str
    number: int | None
    """errno of an OSError."""
    path: str | None

    @classmethod
    def of(cls, error: Exception) -> "_Failure":
        if isinstance(error, OSError) and error.errno is not None:
            path = None if error.filename is None else str(error.filename)
            return cls("OSError", str(error.strerror), error.errno, path)
        return cls("UserError" if isinstance(error, UserError) else type(error).__name__, str(error), None, None)

    @property
    def is_plain(self) -> bool:
        """Whether one line says all there is to say of it."""
        return self.kind == "UserError" or self.number is not None

    def on_rank(self, rank: int) -> Exception:
        if self.kind == "UserError":
            return share(UserError(f"rank {rank}: {self.text}"))
        if self.number is not None:
            return share(OSError(self.number, f"{self.text} on rank {rank}", self.path))
        return RuntimeError(f"rank {rank} failed: {self.kind}: {self.text}")
