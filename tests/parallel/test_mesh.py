"""Who belongs together: every axis of several layouts, seen by eight real processes."""

from typing import NamedTuple

import pytest
import torch
from torch import distributed

from hzlm.launch.processes import run_ranks
from hzlm.parallel.mesh import ALONE, Axis, make_mesh, name_layout

Layout = tuple[int, int, int]
AXES = {"pipe": (0,), "data": (1,), "tensor": (2,), "stage": (1, 2), "world": (0, 1, 2)}
"""Of (pipe, data, tensor), what differs among the ranks of an axis."""
LAYOUTS: tuple[Layout, ...] = ((2, 2, 2), (8, 1, 1), (1, 8, 1), (1, 2, 4), (4, 1, 2))


class Seen(NamedTuple):
    """What a rank sees of an axis."""

    size: int
    index: int
    members: int | None
    """The sum of 2^rank over the group; None where there is no group."""


def look_around(layouts: tuple[Layout, ...]) -> tuple[int, list[dict[str, Seen]], list[bool]]:
    """The rank that torch.distributed has given this process, its axes under each layout, and whether rows are split
    where that is wanted."""
    distributed.init_process_group("gloo")
    try:
        rank = distributed.get_rank()
        found, split = [], []
        for layout in layouts:
            mesh = make_mesh(*layout, True, torch.device("cpu"))
            split.append(mesh.split_rows)
            seen = {}
            for name in AXES:
                axis: Axis = getattr(mesh, name)
                mark = torch.tensor(2**rank)
                if axis.group is not None:
                    distributed.all_reduce(mark, group=axis.group)
                seen[name] = Seen(axis.size, axis.index, None if axis.group is None else int(mark))
            found.append(seen)
        return rank, found, split
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def seen() -> list[tuple[int, list[dict[str, Seen]], list[bool]]]:
    return run_ranks(look_around, 8, LAYOUTS)


def place(rank: int, layout: Layout) -> Layout:
    """(pipe, data, tensor) index, from rank = (pipe index * data size + data index) * tensor size + tensor index."""
    _, data, tensor = layout
    return rank // (data * tensor), rank // tensor % data, rank % tensor


@pytest.mark.parametrize("number", range(len(LAYOUTS)), ids=map(name_layout, LAYOUTS))
def test_an_axis_joins_the_ranks_that_differ_in_its_index_alone(
    seen: list[tuple[int, list[dict[str, Seen]], list[bool]]], number: int
) -> None:
    layout = LAYOUTS[number]
    for rank, (own, found, _) in enumerate(seen):
        assert own == rank
        for name, directions in AXES.items():
            members = [
                other
                for other in range(8)
                if all(
                    ours == theirs or direction in directions
                    for direction, (ours, theirs) in enumerate(
                        zip(place(rank, layout), place(other, layout), strict=True)
                    )
                )
            ]
            group = sum(2**member for member in members) if len(members) > 1 else None
            assert found[number][name] == Seen(len(members), members.index(rank), group), f"{name} of rank {rank}"


def test_tensor_parallel_ranks_are_neighbours(
    seen: list[tuple[int, list[dict[str, Seen]], list[bool]]],
) -> None:
    """Written out for 2 x 2 x 2: as bits of the ranks, 0b11 is ranks 0 and 1."""
    groups = {name: [found[0][name].members for _, found, _ in seen] for name in AXES}
    assert groups == {
        "tensor": [0b11, 0b11, 0b1100, 0b1100, 0b110000, 0b110000, 0b11000000, 0b11000000],
        "data": [0b101, 0b1010, 0b101, 0b1010, 0b1010000, 0b10100000, 0b1010000, 0b10100000],
        "pipe": [0b10001, 0b100010, 0b1000100, 0b10001000, 0b10001, 0b100010, 0b1000100, 0b10001000],
        "stage": [0b1111] * 4 + [0b11110000] * 4,
        "world": [0b11111111] * 8,
    }


def test_a_size_of_one_has_no_group_and_splits_no_rows(
    seen: list[tuple[int, list[dict[str, Seen]], list[bool]]],
) -> None:
    alone = Seen(ALONE.data.size, ALONE.data.index, None)
    for _, found, split in seen:
        assert found[1]["data"] == found[1]["tensor"] == found[1]["stage"] == alone
        assert found[2]["pipe"] == found[2]["tensor"] == alone
        assert split == [tensor > 1 for _, _, tensor in LAYOUTS]
