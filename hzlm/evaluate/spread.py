"""Some of the lines of a file that is read twice."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def choose_spread(read: Callable[[], Iterable[T]], most: int) -> list[T]:
    """At most so many, equally far apart; always the same ones. Only these are held.

    Args:
        read: begins anew at each call.
        most: 1 or more.
    """
    total = sum(1 for _ in read())
    return list(islice(read(), 0, None, max(1, -(-total // most))))
