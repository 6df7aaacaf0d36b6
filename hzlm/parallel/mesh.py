"""Where a process stands among all processes of a run.

The ranks form a box: rank = (pipe index * data size + data index) * tensor size + tensor index. So the ranks of one
tensor-parallel group, which talk most, are neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import distributed
from torch.distributed import ProcessGroup

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Axis:
    """Some ranks that belong together, as one of them sees it: how many they are, and its own number among them."""

    size: int = 1
    index: int = 0
    group: ProcessGroup | None = field(default=None, compare=False)
    """What they communicate through; None where the rank is alone."""


@dataclass(frozen=True)
class Mesh:
    """The place of this process; as it stands, that of a process on its own.

    Everything that depends on the layout is told so by this value.
    """

    pipe: Axis = Axis()
    """The stages of the pipeline that this rank is in."""
    data: Axis = Axis()
    """The ranks with the same parameters, each with rows of its own."""
    tensor: Axis = Axis()
    """The ranks that share the tensors of a layer."""
    stage: Axis = Axis()
    """All ranks of this pipeline stage: data x tensor."""
    world: Axis = Axis()
    """All ranks."""
    split_rows: bool = False
    """Sequence parallelism (Korthikanti et al. 2022, arXiv 2205.05198): outside attention and feed-forward, each
    tensor-parallel rank holds a part of the rows of a micro-batch."""
    device: torch.device = CPU
    """Where this rank computes."""

    @property
    def is_first_stage(self) -> bool:
        """Whether this rank embeds."""
        return self.pipe.index == 0


ALONE = Mesh()
"""The mesh of a process on its own."""


def make_mesh(pipe: int, data: int, tensor: int, split_rows: bool, device: torch.device) -> Mesh:
    """The mesh of this process; a collective call of all processes, behind torch.distributed's initialisation.

    Args:
        pipe, data, tensor: ranks along each axis; their product is the number of processes.
        split_rows: as in `Mesh`; of no effect where `tensor` is 1.
        device: where this rank computes.
    """
    sizes = (pipe, data, tensor)
    own = distributed.get_rank()
    ranks = {place: rank for rank, place in enumerate(product(*map(range, sizes)))}
    places = list(ranks)

    def axis(*directions: int) -> Axis:
        """Groups of the ranks that differ in these directions only; every rank makes all groups, in one order."""
        found = Axis()
        groups: dict[tuple[int, ...], list[int]] = {}
        for rank, place in enumerate(places):
            fixed = tuple(number for direction, number in enumerate(place) if direction not in directions)
            groups.setdefault(fixed, []).append(rank)
        for members in groups.values():
            if len(members) > 1:
                group = distributed.new_group(members)
                if own in members:
                    found = Axis(len(members), members.index(own), group)
        return found

    return Mesh(
        pipe=axis(0),
        data=axis(1),
        tensor=axis(2),
        stage=axis(1, 2),
        world=axis(0, 1, 2),
        split_rows=split_rows and tensor > 1,
        device=device,
    )


def name_layout(sizes: Sequence[int]) -> str:
    """(pipe, data, tensor) as "2x1x2"."""
    return "x".join(map(str, sizes))
