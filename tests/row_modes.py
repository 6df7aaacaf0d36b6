"""What a rank does without and with split rows; importable in processes of its own."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import distributed

from hzlm.parallel.mesh import Mesh, make_mesh

T = TypeVar("T")


def run_in_both_row_modes(action: Callable[[Mesh], T]) -> tuple[T, T]:
    """An action of tensor-parallel ranks that hold all rows, and of ranks that share them; for `run_ranks`."""
    distributed.init_process_group("gloo")
    try:
        ranks = distributed.get_world_size()
        whole, split = (action(make_mesh(1, 1, ranks, rows, torch.device("cpu"))) for rows in (False, True))
        return whole, split
    finally:
        distributed.destroy_process_group()
