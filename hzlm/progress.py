"""Progress of anything that may take longer than two seconds, shown on standard error."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

SHORT_SECONDS = 2.0
"""Work that ends sooner than this leaves no line where standard error is no terminal."""
LINE_SECONDS = 10.0
"""Least time between two lines where standard error is no terminal."""


def format_seconds(seconds: float) -> str:
    """`75` -> `1:15`, `3700` -> `1:01:40`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Progress:
    """A tqdm bar on a terminal; elsewhere a plain line every ten seconds and one at the end.

    Args:
        total: how many units there are; None where nobody knows.
        description: what is being done, as in `reading`.
        unit: what is counted, as in `sentences`.
        initial: units that were done before, and have no part in the rate.
    """

    def __init__(self, total: int | None, description: str, unit: str, initial: int = 0) -> None:
        self.total = total
        self.description = description
        self.unit = unit
        self.done = self.initial = initial
        self._note = ""
        self._bar: tqdm | None = None

    def __enter__(self) -> Self:
        self._start = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self.total,
                initial=self.initial,
                desc=self.description,
                unit=f" {self.unit}",
                unit_scale=True,
                dynamic_ncols=True,
            )
        return self

    def advance(self, n: int = 1, note: str = "") -> None:
        """Counts `n` more units as done; a note such as `loss 3.21` stays until the next one."""
        self.done += n
        self._note = note or self._note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._print_line()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif time.monotonic() - self._start > SHORT_SECONDS:
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        elapsed = max(self._last_line - self._start, 1e-9)
        rate = (self.done - self.initial) / elapsed
        parts = [f"{rate:,.0f} {self.unit}/s" if rate >= 100 else f"{rate:.3g} {self.unit}/s"]
        parts.append(f"{format_seconds(elapsed)} elapsed")
        count = f"{self.done:,}"
        if self.total is not None:
            count += f"/{self.total:,}"
            if rate > 0 and self.done < self.total:
                parts.append(f"{format_seconds((self.total - self.done) / rate)} left")
        if self._note:
            parts.append(self._note)
        print(f"{self.description}: {count} {self.unit}, {', '.join(parts)}", file=sys.stderr, flush=True)
