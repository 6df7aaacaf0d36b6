"""Stopping a run from outside: SIGTERM, as job schedulers send it, and Ctrl-C (SIGINT).

A process that was stopped ends with status 143 (SIGTERM) or 130 (Ctrl-C): 128 and the number of the signal, as shells
count.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Handler = Callable[[int, FrameType | None], None]
Handlers = dict[signal.Signals, Handler | int]


class Stopped(SystemExit):
    """A signal has ended a run, whose state is saved. Nobody need catch it: the process then ends with its status.

    The text is one line: where the run stands, and how it goes on.
    """

    def __init__(self, number: int, text: str) -> None:
        """number: of the signal."""
        self.number = number
        self.status = exit_status(number)
        super().__init__(self.status)
        self.text = text

    def __str__(self) -> str:
        return self.text


class StopSignals:
    """As a context manager: the first signal is only noted, so that the work can come to its end.

    From then on Ctrl-C does what it did before, which is to end the work at once; SIGTERM changes nothing more, since
    schedulers send it several times. Outside the main thread signals are left alone, and so are ignored ones.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        """Number of the first signal; None as long as there was none."""
        self._previous: Handlers = {}

    def __enter__(self) -> Self:
        # known before the first signal can come, which puts one of them back
        self._previous = _replaceable()
        _install(self._note, self._previous)
        return self

    def __exit__(self, *error: object) -> None:
        _restore(self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.caught is None:
            self.caught = number
            _restore({signal.SIGINT: self._previous[signal.SIGINT]} if signal.SIGINT in self._previous else {})


@contextmanager
def end_at_once() -> Iterator[None]:
    """Meanwhile a signal ends the process on the spot, with the status of that signal and one line.

    For a program whose state is safe on the disk at every moment. An exception would not do: what is being imported
    may catch it.
    """
    previous = _replaceable()
    _install(_end, previous)
    try:
        yield
    finally:
        _restore(previous)


def exit_status(number: int) -> int:
    """What a process ends with that was stopped by a signal of this number."""
    return 128 + number


def _end(number: int, frame: FrameType | None) -> None:
    # not print: the signal may have come in the middle of one
    os.write(2, f"hzlm: ended at once by {signal.Signals(number).name}; the same command goes on\n".encode())
    os._exit(exit_status(number))


def _replaceable() -> Handlers:
    """The present handlers of the signals that are not ignored; none outside the main thread."""
    found: Handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            # None: a handler that Python knows nothing of, and could not put back
            if handler is not None and handler is not signal.SIG_IGN:
                found[number] = handler
    return found


def _install(handler: Handler, numbers: Iterable[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, handler)


def _restore(previous: Handlers) -> None:
    for number, handler in previous.items():
        signal.signal(number, handler)
