"""Floors by formula, and the table of costs."""

import torch

from hzlm.tools.bench.kernels.case import Case, Cost
from hzlm.tools.bench.kernels.paper import PEAKS, describe_costs, format_markdown

A100, H100 = PEAKS


def test_the_floor_is_the_slower_of_products_and_memory() -> None:
    assert A100.floor(Cost(10, 10, 2_000_000)) == 1e-6
    assert A100.floor(Cost(10, 10, 2_000_000, 624_000_000)) == 2e-6
    assert H100.floor(Cost(0, 0, 0, 989_000_000)) == 1e-6


def test_a_line_a_case() -> None:
    cost = Cost(3_000_000, 1_000_000, 2_000_000)
    case = Case("sums", "4 x 4", "both", lambda device: (), torch.add, torch.add, cost, 12_000_000)
    head, rule, line = describe_costs([("base large", case)]).splitlines()
    cells = [cell.strip() for cell in line.strip("| ").split("|")]
    assert cells == ["sums", "base large", "4 x 4", "both", "4.0", "2.0", "2.00", "0.0", "1.0", "0.6", "12.0", "3.00"]
    assert len(head) == len(rule) == len(line)


def test_markdown() -> None:
    assert format_markdown(("a", "b"), [("word", "1,000")], names=1).splitlines() == [
        "| a    |     b |",
        "| ---- | ----: |",
        "| word | 1,000 |",
    ]
