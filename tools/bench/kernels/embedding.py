"""What the first layer costs: token vectors and place vectors, and the gradients of their tables."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.config import ModelConfig
from hzlm.kernels.dropout import Draw
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.gpu.embedding import add_places, embed
from hzlm.tools.bench.kernels.case import Case, Cost

Run = Callable[..., Tensor]
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

    Backward, the gradient of each table is filled with zeros and written once. Without `rows` of a table the vectors of
    the tokens are given.
    """
    elements = 2 * positions * width
    gather = rows > 0
    dropout = (2 * size + 1) * elements if rate > 0.0 else 0
    forward = (2 * gather + 2 + 2 + 3) * size * elements + dropout
    gradients = (1 + gather) * size * elements + 2 * (rows + 2 * length) * width * size
    return forward + (gradients + dropout if backward else 0)


def cases(model: ModelConfig, targets: int, tokens: int) -> list[Case]:
    """A vocabulary of nothing but targets, of which the most frequent has a twentieth of the positions.

    Where several ranks hold the table together, the vectors come from all of them, and places are added to these.
    """
    width, length, rate, size = model.hidden_size, model.max_length, model.dropout, 2
    random = torch.rand(2, tokens // LENGTH, LENGTH, generator=torch.Generator().manual_seed(1))
    ids = (targets * random**3).long().clamp(max=targets - 1)
    places = (torch.arange(LENGTH) % SENTENCE).expand(tokens // LENGTH, LENGTH)
    positions = places.numel()
    gradient = Cost(0, 0, 2 * positions * width * size)
    of_table = sum_cost(torch.bincount(ids.flatten(), minlength=targets).tolist(), 2 * positions, width, size)
    of_places = sum_cost(torch.bincount(places.flatten(), minlength=length).tolist() * 2, 2 * positions, width, size)
    draw, name = Draw(rate, seed=1), f"2 x {positions} x {width}"
    found = []
    for rows, below, shape in (
        (targets, of_table, f"{name} of {targets}"),
        (0, dropout_cost(positions, width, size) if rate > 0.0 else gradient, f"{name}, vectors given"),
    ):
        make = partial(_make, ids if rows else None, places, rows, length, width)
        forward = forward_cost(positions, width, size, rows, length, gather=rows > 0)
        moved = partial(plain_moved, positions, width, size, rows, length, rate)
        # both gradients below read the same one
        both = forward + below + of_places
        both = Cost(both.read, both.written, both.least - gradient.least)
        found += [
            Case(
                "embedding", shape, "forward", make, partial(_forward, _fused, draw), partial(_forward, _unfused, draw),
                forward, moved(backward=False),
            ),
            Case(
                "embedding", shape, "both", make, partial(_both, _fused, draw), partial(_both, _unfused, draw), both,
                moved(backward=True),
            ),
        ]  # fmt: skip
    return found


def _make(
    ids: Tensor | None, places: Tensor, rows: int, length: int, width: int, device: torch.device
) -> tuple[Tensor | None, ...]:
    """Tokens and places; the table, or without tokens the vectors as `hzlm.parallel.vocabulary` gives them; the two
    place tables; the gradient of the result."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.bfloat16, device=device)

    vectors = normal(rows, width) if ids is not None else normal(places.shape[0], 2, LENGTH, width).transpose(0, 1)
    tensors = (vectors, normal(length, width), normal(length, width))
    gradient = normal(2, *places.shape, width)
    tokens = None if ids is None else ids.to(device)
    return tokens, places.to(device), *(tensor.requires_grad_() for tensor in tensors), gradient


@torch.no_grad()
def _forward(run: Run, draw: Draw, *tensors: Tensor) -> Tensor:
    return run(draw, *tensors[:5])


def _both(run: Run, draw: Draw, *tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(run(draw, *tensors[:5]), tensors[2:5], tensors[5])


def _fused(
    draw: Draw, tokens: Tensor | None, places: Tensor, vectors: Tensor, source: Tensor, target: Tensor
) -> Tensor:
    if tokens is None:
        return add_places(vectors, places, (source, target), draw)
    return embed(tokens, vectors, places, (source, target), draw)


def _unfused(
    draw: Draw, tokens: Tensor | None, places: Tensor, vectors: Tensor, source: Tensor, target: Tensor
) -> Tensor:
    of_places = torch.stack([functional.embedding(places, one) for one in (source, target)])
    result = (vectors if tokens is None else functional.embedding(tokens, vectors)) + of_places
    return functional.dropout(result, draw.rate) if draw.rate > 0.0 else result
