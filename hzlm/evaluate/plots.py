"""Charts as pictures."""

from pathlib import Path

from matplotlib.figure import Figure

from hzlm.evaluate.charts import Chart

WIDTH = 0.8
"""Of a group of bars; the groups are 1 apart."""


def draw_chart(chart: Chart, path: Path) -> None:
    """Writes a PNG of bars, percent by class, the number of characters below each class.

    Args:
        chart: with one system or more.
        path: of the PNG, whatever its name ends with.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    bar = WIDTH / len(chart.systems)
    for number, (system, tallies) in enumerate(chart.systems.items()):
        places = [group + bar * (number + 0.5) - WIDTH / 2 for group in range(len(tallies))]
        axes.bar(places, [100 * tally.share for tally in tallies.values()], bar, label=system)
    classes = next(iter(chart.systems.values()))
    axes.set_xticks(range(len(classes)), [f"{name}\n{tally.total:,}" for name, tally in classes.items()])
    axes.set(title=chart.title, xlabel=chart.label, ylabel="%", ylim=(0, 100))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    if len(chart.systems) > 1:
        figure.legend(loc="outside right upper")
    figure.savefig(path, dpi=120, format="png")
