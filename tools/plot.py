"""Curves of training runs as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hzlm.train.records import read_metrics

# chart title, label of the vertical axis, and for each curve its metric, label and style
CHARTS = (
    ("Loss", "nats a character", (("train/decoder_loss", "training", "-"), ("dev/decoder_loss", "dev", "o-"))),
    ("Accuracy, right history given", "%", (("train/accuracy", "training", "-"), ("dev/accuracy", "dev", "o-"))),
)


def plot_runs(runs: Sequence[tuple[str, Path]], path: Path) -> None:
    """Writes a PNG with loss and teacher-forced accuracy over the steps of runs that follow each other.

    Args:
        runs: (title, run folder), in the order they were made.
        path: of the PNG.
    """
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, (title, unit, curves) in zip(figure.subplots(1, len(CHARTS)), CHARTS, strict=True):
        colours = iter(("tab:blue", "tab:orange"))
        for metric, label, style in curves:
            colour = next(colours)
            first = 0
            for number, (_, folder) in enumerate(runs):
                lines = read_metrics(folder)
                points = [(first + line["step"], line[metric]) for line in lines if metric in line]
                scale = 100 if unit == "%" else 1
                steps, values = [step for step, _ in points], [scale * value for _, value in points]
                axes.plot(steps, values, style, color=colour, markersize=4, label=None if number else label)
                first += lines[-1]["step"] if lines else 0
        _name_phases(axes, runs)
        axes.set(title=title, xlabel="step", ylabel=unit)
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _name_phases(axes: Axes, runs: Sequence[tuple[str, Path]]) -> None:
    first = 0
    for title, folder in runs:
        axes.axvline(first, color="grey", linewidth=0.8, linestyle=":")
        axes.text(
            first, 0.98, title, transform=axes.get_xaxis_transform(), rotation=90, va="top", fontsize=8, color="grey"
        )
        lines = read_metrics(folder)
        first += lines[-1]["step"] if lines else 0
