"""Markdown that programs write."""

from collections.abc import Sequence


def escape(text: str) -> str:
    """What Markdown would take for its own stands for itself."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]()#+-.!|<>~$" else character for character in text)


def format_markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], names: int = 1) -> str:
    """A table whose first `names` columns are flush left, the others flush right. Cells are escaped already."""
    rule = ["---" if number < names else "---:" for number in range(len(headings))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rule, *rows))
