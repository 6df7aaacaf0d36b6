"""Block sizes by GPU and shape, from a table that `hzlm bench kernels --tune` writes (blocks.json beside this file)."""

import json
from functools import cache
from importlib import resources
from typing import Any

import triton
from triton.runtime.driver import driver

FILE = "blocks.json"
# operation -> capability ("80") -> [{"upto": size, block sizes, "num_warps": ..., "num_stages": ...}, ...], rising
Table = dict[str, dict[str, list[dict[str, int]]]]
OLDEST = 80
"""Capability 8.0: what an interpreted kernel takes, too."""


@cache
def read_table() -> Table:
    """The table as it is installed."""
    table: Table = json.loads((resources.files("hzlm.kernels.gpu") / FILE).read_text("utf-8"))
    return table


def capability() -> int:
    """Of the current GPU, as 80 for 8.0."""
    if triton.knobs.runtime.interpret:
        return OLDEST
    target: Any = driver.active.get_current_target()
    return int(target.arch)


def choose_blocks(operation: str, size: int) -> dict[str, int]:
    """Keyword arguments of a launch: block sizes, num_warps, num_stages.

    Args:
        operation: a key of the table.
        size: what the blocks of the operation depend on: a width, or a head size. The first entry that is at least as
            large serves, or the last one; the entries are those of the newest GPU listed that is no newer than this.
    """
    return dict(_find(operation, size, capability()))


def replace_entry(operation: str, arch: int, number: int, entry: dict[str, int]) -> None:
    """Changes the table of this process, not the file: how tuning tries entries. `number` counts from 0."""
    read_table()[operation][str(arch)][number] = entry
    _find.cache_clear()


def find_entries(operation: str, arch: int) -> list[dict[str, int]]:
    """Of the newest GPU listed that is no newer than this, or of the oldest one."""
    by_capability = read_table()[operation]
    known = sorted(int(name) for name in by_capability)
    return by_capability[str(max((number for number in known if number <= arch), default=known[0]))]


@cache
def _find(operation: str, size: int, arch: int) -> dict[str, int]:
    entries = find_entries(operation, arch)
    entry = next((entry for entry in entries if size <= entry["upto"]), entries[-1])
    return {name: value for name, value in entry.items() if name != "upto"}
