"""Tables of hand-made results."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from hzlm.errors import UserError
from hzlm.tools.ablation.plan import Measure, Plan
from hzlm.tools.ablation.run import Result, pool
from hzlm.tools.ablation.table import tabulate

PLAN = Plan(
    base={},
    arms={"plain": ({},), "other_one": ({},), "waiting": ({},)},
    measures={"short": Measure(data=Path("data")), "long": Measure(data=Path("data"))},
    reference="plain",
)
COUNTED = [4, 6, 0, 10]
MEASURE = {"data": "data", "view": "pinyin", "sentences": 1000, "context": 0, "fused": False}


def write(folder: Path, results: Mapping[tuple[str, int], list[int]], counted: list[int] = COUNTED) -> None:
    for (arm, seed), right in results.items():
        path = folder / arm / f"seed-{seed}" / "short.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"measure": MEASURE, "right": right, "counted": counted}), "utf-8")


def test_a_table(tmp_path: Path) -> None:
    """Every sentence gains half of its characters with the one seed that both arms have, and so does every draw."""
    write(tmp_path, {("plain", 1): [2, 3, 0, 5], ("plain", 2): [3, 3, 0, 5], ("other_one", 1): [4, 6, 0, 10]})
    assert tabulate(PLAN, tmp_path).splitlines() == [
        "## short: right characters, %",
        "",
        "| arm | seed 1 | seed 2 | mean | gain over plain |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| plain | 50.00 | 55.00 | 52.50 | - |",
        r"| other\_one | 100.00 | - | 100.00 | +50.00 (+50.00 .. +50.00) |",
    ]


def test_what_is_worse_has_a_negative_gain(tmp_path: Path) -> None:
    write(tmp_path, {("plain", 1): [4, 6, 0, 10], ("plain", 2): [4, 6, 0, 10]})
    write(tmp_path, {("other_one", 1): [4, 3, 0, 5], ("other_one", 2): [4, 6, 0, 7]})
    (row,) = (line for line in tabulate(PLAN, tmp_path).splitlines() if "other" in line)
    cells = row.strip("| ").split(" | ")
    assert cells[1:4] == ["60.00", "85.00", "72.50"]
    gain, low, _, high = cells[4].replace("(", "").replace(")", "").split()
    assert gain == "-27.50", "11 of 40 characters"
    assert float(low) < -27.5 < float(high) <= 0


def test_seeds_are_pooled_by_sentence() -> None:
    """Two runs on the same sentences are no more sentences, and make no interval narrower."""
    assert pool([Result([1, 2], [3, 4]), Result([3, 0], [3, 4])]) == Result([4, 2], [6, 8])


def test_what_is_not_measured_is_left_out(tmp_path: Path) -> None:
    assert tabulate(PLAN, tmp_path) == ""
    write(tmp_path, {("other_one", 2): [4, 6, 0, 0]})
    assert tabulate(PLAN, tmp_path).splitlines()[4:] == [r"| other\_one | - | 50.00 | 50.00 | - |"]


def test_results_on_other_sentences_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, {("plain", 1): [2, 3, 0, 5]})
    write(tmp_path, {("other_one", 1): [2, 3]}, [4, 6])
    with pytest.raises(UserError, match=r"other_one and plain were measured on other sentences \(short\); delete"):
        tabulate(PLAN, tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]", '{"right": [1]}', '{"right": [1], "counted": [1], "x": 1}', "3"])
def test_damaged_results(tmp_path: Path, content: str) -> None:
    write(tmp_path, {("plain", 1): [2]})
    path = tmp_path / "plain" / "seed-1" / "short.json"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=r"this file is damaged: .*; delete it, and measure again") as caught:
        tabulate(PLAN, tmp_path)
    assert str(path) in str(caught.value)
