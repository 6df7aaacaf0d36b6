import io
import sys

import pytest

from hzlm import progress
from hzlm.progress import Progress, format_seconds


class Clock:
    """Stands in for the module `time`."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_short_work_leaves_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3, "reading", "files") as bar:
        for _ in range(3):
            clock.now += 0.5
            bar.advance()
    assert capsys.readouterr() == ("", "")


def test_a_line_every_ten_seconds_and_one_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(100, "reading", "files") as bar:
        for i in range(25):
            clock.now += 1
            bar.advance(4, note="loss 3.2" if i == 0 else "")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "reading: 40/100 files, 4 files/s, 0:10 elapsed, 0:15 left, loss 3.2",
        "reading: 80/100 files, 4 files/s, 0:20 elapsed, 0:05 left, loss 3.2",
        "reading: 100/100 files, 4 files/s, 0:25 elapsed, loss 3.2",
    ]


def test_without_a_total(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(None, "reading", "characters") as bar:
        clock.now += 4000
        bar.advance(80_000_000)
    assert capsys.readouterr().err.splitlines()[-1] == (
        "reading: 80,000,000 characters, 20,000 characters/s, 1:06:40 elapsed"
    )


def test_on_a_terminal_it_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(3, "reading", "files") as bar:
        bar.advance(3, note="loss 3.2")
    text = terminal.getvalue()
    assert "reading" in text
    assert "3.00/3.00" in text
    assert "loss 3.2" in text


@pytest.mark.parametrize(("seconds", "expected"), [(0.9, "0:00"), (75, "1:15"), (3700, "1:01:40")])
def test_format_seconds(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected
