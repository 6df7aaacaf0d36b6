"""Ranks that divide the classes of a cross entropy, in one process and one thread: the interpreter allows no more."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

from hzlm.kernels.cross_entropy import ClassShard

Outcome = TypeVar("Outcome")


def run_on_shards(sizes: Sequence[int], run: Callable[[ClassShard], Outcome]) -> list[Outcome]:
    """What `run` returns on each rank, one rank after the other.

    What a rank tells does not depend on what it is told, so each runs twice: first to hear what it tells, then with
    what all of them have told.

    Args:
        sizes: classes of each rank.
        run: a rank's part, from its shard.
    """
    starts = list(accumulate(sizes[:-1], initial=0))
    told: list[list[Tensor]] = [[] for _ in sizes]

    def listen(rank: int, x: Tensor) -> Tensor:
        told[rank].append(x.clone())
        return torch.stack([x] * len(sizes))

    def answer(rank: int, calls: Iterator[Tensor], x: Tensor) -> Tensor:
        gathered = next(calls)
        assert torch.equal(gathered[rank], x)
        return gathered

    for rank, start in enumerate(starts):
        run(ClassShard(start, sum(sizes), partial(listen, rank)))
    outcomes = []
    for rank, start in enumerate(starts):
        calls = iter([torch.stack(same_call) for same_call in zip(*told, strict=True)])
        outcomes.append(run(ClassShard(start, sum(sizes), partial(answer, rank, calls))))
        assert next(calls, None) is None
    return outcomes
