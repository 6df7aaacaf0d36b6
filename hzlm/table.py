"""Columns of text for people."""

from collections.abc import Sequence


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    """Lines of columns as wide as need be: the first `names` of them flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        cells = zip(row, widths, strict=True)
        lines.append("  ".join(c.ljust(w) if i < names else c.rjust(w) for i, (c, w) in enumerate(cells)))
    return "\n".join(lines)
