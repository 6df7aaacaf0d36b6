"""Block sizes are chosen among neighbours by whoever judges."""

import json
from collections.abc import Iterator
from math import inf, log2
from pathlib import Path

import pytest

from hzlm.errors import UserError
from hzlm.kernels.gpu.blocks import choose_blocks, find_entries, read_table, replace_entry
from hzlm.tools.bench.kernels.case import Case
from hzlm.tools.bench.kernels.command import choose_peaks
from hzlm.tools.bench.kernels.configurations import OPERATIONS
from hzlm.tools.bench.kernels.paper import PEAKS
from hzlm.tools.bench.kernels.paper_gpu import Binary, Launch
from hzlm.tools.bench.kernels.tune import busy_share, neighbours, tune, users_of, write_table

KEY = "cached_attention"


@pytest.fixture(autouse=True)
def _same_table_afterwards() -> Iterator[None]:
    before = json.dumps(read_table())
    yield
    read_table().clear()
    read_table().update(json.loads(before))
    for key, by_capability in read_table().items():
        for arch, entries in by_capability.items():
            replace_entry(key, int(arch), 0, entries[0])


def test_every_entry_is_of_some_operation() -> None:
    users = {key: users_of(key) for key in read_table()}
    assert set().union(*users.values()) == OPERATIONS.keys() - {"linear_cross_entropy"}  # whose kernel is cross_entropy
    assert users["attention_forward_float32"] == {"attention"}


def test_neighbours_differ_in_one_size() -> None:
    entry = {"upto": 64, "ROWS": 16, "SPAN": 16, "num_warps": 16, "num_stages": 1}
    assert list(neighbours(entry)) == [
        entry,
        entry | {"ROWS": 8},  # 32 would be more than SPAN
        entry | {"SPAN": 32},
        entry | {"num_warps": 8},
        entry | {"num_stages": 2},
    ]


def test_the_best_neighbour_is_chosen_and_written(tmp_path: Path) -> None:
    """As if four times the blocks were best."""
    before = [dict(entry) for entry in find_entries(KEY, 80)]

    def judge(case: Case) -> float:
        size = int(case.shape.split(" x ")[-1])
        block = choose_blocks(KEY, size)["BLOCK"]
        first = next(entry for entry in before if size <= entry["upto"])["BLOCK"]
        return inf if block < first else 2 + abs(log2(block / first) - 2)

    changes = tune([KEY], 80, judge)
    assert len(changes) == len(before)
    assert [entry["BLOCK"] for entry in find_entries(KEY, 80)] == [2 * entry["BLOCK"] for entry in before]
    assert "'num_warps'" in changes[0]
    write_table(tmp_path / "blocks.json")
    assert json.loads((tmp_path / "blocks.json").read_text("utf-8")) == read_table()


def test_where_nothing_is_better_all_stays() -> None:
    before = json.dumps(find_entries(KEY, 80))
    assert tune([KEY], 80, lambda case: 1.0) == []
    assert json.dumps(find_entries(KEY, 80)) == before


def test_a_launch_that_fills_the_gpu_is_busy() -> None:
    binary = Binary("sums.add bf16", "", 80, 64, 0, 0, 256, 0, "")  # 4 blocks of 256 threads on each multiprocessor
    room = 4 * 108
    for programs, share in ((room, 1.0), (room // 2, 0.5), (room + 1, (room + 1) / (2 * room))):
        assert busy_share(Launch(binary, programs), PEAKS[0]) == share
    slow = Binary("sums.add bf16", "", 80, 128, 0, 0, 256, 0, "")
    assert busy_share(Launch(slow, 2 * 108), PEAKS[0]) == 0.5


def test_capabilities() -> None:
    assert choose_peaks([90, 80]) == [PEAKS[1], PEAKS[0]]
    with pytest.raises(UserError, match="--capabilities 75 is not known; known: 80, 90"):
        choose_peaks([75])
