"""What operations move and compute by formula, beside what has to be moved and what unfused torch operations move."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hzlm.tools.bench.kernels.case import Case, Cost


@dataclass(frozen=True)
class Peak:
    """What a GPU does at most, by its data sheet (NVIDIA; SXM boards, products in bf16 without sparsity)."""

    name: str
    capability: int
    multiprocessors: int
    flops: float
    """A second."""
    bytes: float
    """A second, of its memory."""

    def floor(self, cost: Cost) -> float:
        """Seconds that no implementation can be faster than, unless its inputs lie in a cache."""
        return max(cost.flops / self.flops, cost.least / self.bytes)


PEAKS = (
    Peak("A100", 80, 108, 312e12, 2.0e12),
    Peak("H100", 90, 132, 989e12, 3.35e12),
)
"""What the kernels are made for."""
H200 = Peak("H200", 90, 132, 989e12, 4.8e12)


def describe_costs(cases: Iterable[tuple[str, Case]]) -> str:
    """A Markdown table of cases, each with the names of its configurations."""
    head = (
        "operation", "configurations", "shape", "pass", "moved MB", "least MB", "of least", "GFLOP",
        *(f"{peak.name} floor us" for peak in PEAKS), "torch MB", "of moved",
    )  # fmt: skip
    rows = []
    for configuration, case in cases:
        cost = case.cost
        rows.append(
            (
                case.operation,
                configuration,
                case.shape,
                case.direction,
                f"{cost.moved / 1e6:,.1f}",
                f"{cost.least / 1e6:,.1f}",
                f"{cost.moved / cost.least:.2f}",
                f"{cost.flops / 1e9:,.1f}",
                *(f"{peak.floor(cost) * 1e6:,.1f}" for peak in PEAKS),
                f"{case.plain_moved / 1e6:,.1f}",
                f"{case.plain_moved / cost.moved:.2f}",
            )
        )
    return format_markdown(head, rows, names=4)


def format_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> str:
    """A table whose source can be read, too: the first `names` columns flush left, the others flush right."""
    widths = [max(3, *map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [
        [
            cell.ljust(width) if i < names else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in (headings, *rows)
    ]
    lines.insert(1, ["-" * width if i < names else "-" * (width - 1) + ":" for i, width in enumerate(widths)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
