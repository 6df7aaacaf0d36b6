"""What the first layer costs: token vectors and place vectors, and the gradients of their tables."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.config import ModelConfig
from hzlm.kernels.dropout import Draw
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.embedding import embed
from hzlm.tools.bench.kernels.case import Case, Cost

LONG, INTEGER, FLOAT = 8, 4, 4
"""Bytes."""
LENGTH = 128
"""Positions of a row."""
SENTENCE = 23
"""Positions of a segment."""


def forward_cost(positions: int, width: int, size: int, rows: int, length: int, gather: bool = True) -> Cost:
    """Of `embed`, or of `add_places` where nothing is gathered.

    Args:
        positions: of one of the two sequences; all their indices are inside the tables.
        width: W.
        size: bytes of an element.
        rows, length: V and P.
        gather: whether token vectors are gathered from a table.
    """
    across = -(-width // choose_blocks("embedding", width)["COLUMNS"])
    vectors = 2 * positions * width * size
    ids = 2 * positions * LONG
    tables = (2 * length + (rows if gather else 0)) * width * size
    least = vectors + tables + ids // 2 + (ids if gather else vectors)
    return Cost(across * ids * (2 if gather else 1) + 2 * vectors, vectors, least)


def dropout_cost(positions: int, width: int, size: int) -> Cost:
    """Of the gradient of the vectors that `add_places` was given, where there is dropout."""
    vectors = 2 * positions * width * size
    return Cost(vectors, vectors, 2 * vectors)


def sum_cost(counts: Sequence[int], positions: int, width: int, size: int) -> Cost:
    """Of the gradient of a table, without the sort.

    Args:
        counts: of each id, at how many positions it stands.
        positions: all, also those whose ids are outside the table.
        width: W.
        size: bytes of an element.
    """
    blocks = choose_blocks("embedding_backward", width)
    across, chunk = -(-width // blocks["COLUMNS"]), blocks["CHUNK"]
    inside, most = sum(counts), 2 * positions // chunk
    heavy = [count for count in counts if count > chunk]
    chunks = sum(-(-count // chunk) for count in heavy)
    lists = INTEGER * (most + 3 * chunks + 2 * len(counts) + 2 * (len(counts) - len(heavy))) + LONG * inside
    partials = FLOAT * chunks * width
    rows, out = inside * width * size, len(counts) * width * size
    return Cost(across * lists + rows + partials, partials + out, LONG * positions + rows + out)


def plain_moved(positions: int, width: int, size: int, rows: int, length: int, rate: float, backward: bool) -> int:
    """Bytes that torch moves, each lookup, the stack, the sum and the dropout with its mask of bytes on its own.

    Backward, the gradient of each table is filled with zeros and written once.
    """
    elements = 2 * positions * width
    dropout = (2 * size + 1) * elements if rate > 0.0 else 0
    forward = (2 + 2 + 2 + 3) * size * elements + dropout
    return forward + (2 * size * elements + 2 * (rows + 2 * length) * width * size + dropout if backward else 0)


def cases(model: ModelConfig, targets: int, tokens: int) -> list[Case]:
    """A vocabulary of nothing but targets, of which the most frequent has a twentieth of the positions."""
    width, length, size = model.hidden_size, model.max_length, 2
    random = torch.rand(2, tokens // LENGTH, LENGTH, generator=torch.Generator().manual_seed(1))
    ids = (targets * random**3).long().clamp(max=targets - 1)
    places = (torch.arange(LENGTH) % SENTENCE).expand(tokens // LENGTH, LENGTH)
    positions = places.numel()
    forward = forward_cost(positions, width, size, targets, length)
    of_table = sum_cost(torch.bincount(ids.flatten(), minlength=targets).tolist(), 2 * positions, width, size)
    of_places = sum_cost(torch.bincount(places.flatten(), minlength=length).tolist() * 2, 2 * positions, width, size)
    # both sums read the same gradient
    backward = of_table + of_places + Cost(0, 0, -2 * positions * width * size)
    draw, make = Draw(model.dropout, seed=1), partial(_make, ids, places, targets, length, width)
    moved = partial(plain_moved, positions, width, size, targets, length, model.dropout)
    shape = f"2 x {positions} x {width} of {targets}"
    return [
        Case(
            "embedding", shape, "forward", make, partial(_kernel, draw), partial(_plain, model.dropout), forward,
            moved(backward=False),
        ),
        Case(
            "embedding", shape, "both", make, partial(_kernel_both, draw), partial(_plain_both, model.dropout),
            forward + backward, moved(backward=True),
        ),
    ]  # fmt: skip


def _make(ids: Tensor, places: Tensor, rows: int, length: int, width: int, device: torch.device) -> tuple[Tensor, ...]:
    """Tokens, places, the three tables and the gradient of the result."""
    tables = (torch.randn(size, width, dtype=torch.bfloat16, device=device) for size in (rows, length, length))
    gradient = torch.randn(*ids.shape, width, dtype=torch.bfloat16, device=device)
    return ids.to(device), places.to(device), *(table.requires_grad_() for table in tables), gradient


@torch.no_grad()
def _kernel(draw: Draw, ids: Tensor, places: Tensor, *tensors: Tensor) -> Tensor:
    table, source, target, _ = tensors
    return embed(ids, table, places, (source, target), draw)


def _kernel_both(draw: Draw, ids: Tensor, places: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    table, source, target, gradient = tensors
    return torch.autograd.grad(embed(ids, table, places, (source, target), draw), (table, source, target), gradient)


@torch.no_grad()
def _plain(rate: float, ids: Tensor, places: Tensor, *tensors: Tensor) -> Tensor:
    return _sum(rate, ids, places, *tensors[:3])


def _plain_both(rate: float, ids: Tensor, places: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(_sum(rate, ids, places, *tensors[:3]), tensors[:3], tensors[3])


def _sum(rate: float, ids: Tensor, places: Tensor, table: Tensor, source: Tensor, target: Tensor) -> Tensor:
    of_places = torch.stack([functional.embedding(places, one) for one in (source, target)])
    result = functional.embedding(ids, table) + of_places
    return functional.dropout(result, rate) if rate > 0.0 else result
