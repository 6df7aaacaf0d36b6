"""The folder that an evaluation leaves behind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hzlm.errors import UserError
from hzlm.evaluate.charts import Chart
from hzlm.evaluate.plots import draw_chart
from hzlm.stored_files import replacing


class Report(Protocol):
    """What an evaluation found, for programs and for people."""

    def json(self) -> str:
        """All numbers in one line."""

    def table(self) -> str:
        """The scores, for a terminal."""

    def markdown(self) -> str:
        """A page with all tables."""

    def charts(self) -> Sequence[Chart]:
        """What is drawn."""


def make_folder(folder: Path) -> None:
    """Makes the folder and those above it. Raises `UserError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: no folder can be made here ({error.strerror}); give --output another") from None


def write_report(report: Report, folder: Path) -> None:
    """Writes evaluation.json, evaluation.md and a PNG of each chart; each of them is whole or as it was before."""
    for name, text in (("evaluation.json", report.json()), ("evaluation.md", report.markdown())):
        with replacing(folder / name) as path:
            path.write_text(text + "\n", "utf-8")
    for chart in report.charts():
        with replacing(folder / f"{chart.name}.png") as path:
            draw_chart(chart, path)
