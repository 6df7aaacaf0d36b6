"""The one exception whose text is meant for the user, and errors that all processes of a run meet together."""

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class UserError(Exception):
    """A mistake in an input, a file or a configuration.

    The text is one line: what is wrong, where, and what to do. The command line prints it and exits with status 2.
    """

    def __init__(self, text: str) -> None:
        # What it quotes (a file's name, a value of a config) may hold line ends.
        super().__init__(" ".join(text.splitlines()))


SHARED = "raised on every rank"


def share(error: E) -> E:
    """Marks an error that is raised on every rank of a run, so that one of them alone need tell it; returns it."""
    error.add_note(SHARED)
    return error


def is_shared(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, was marked by `share`."""
    current: BaseException | None = error
    while current is not None:
        if SHARED in getattr(current, "__notes__", ()):
            return True
        current = current.__cause__
    return False
