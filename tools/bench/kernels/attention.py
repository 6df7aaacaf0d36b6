"""What attention over packed rows costs: bytes by where the segments lie, products by how many pairs see each other."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.config import ModelConfig
from hzlm.kernels.attention import attention_bias
from hzlm.kernels.dropout import Draw
from hzlm.kernels.gpu.attention import attention
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.tools.bench.kernels.case import Case, Cost
from hzlm.tools.bench.kernels.peers import flash_attention

FLOAT, INTEGER, BOOL = 4, 4, 1
"""Bytes."""
LENGTH = 512
"""Positions of a row."""
SENTENCES = (8, 64)
"""Characters of the shortest and the longest sentence."""


def pack_rows(rows: int) -> Tensor:
    """Segments int32 [rows, LENGTH] of sentences that came by in some order, each in the row that it still fits in."""
    generator = torch.Generator().manual_seed(0)
    segments = torch.zeros(rows, LENGTH, dtype=torch.int32)
    shortest, longest = SENTENCES
    for row in segments:
        place, number = 0, 1
        length = int(torch.randint(shortest, longest + 1, (), generator=generator))
        while place + length <= LENGTH:
            row[place : place + length] = number
            place, number = place + length, number + 1
            length = int(torch.randint(shortest, longest + 1, (), generator=generator))
    return segments


@dataclass(frozen=True)
class Shape:
    """What the costs depend on."""

    segments: Tensor
    """[rows, length], on the CPU."""
    heads: int
    size: int
    """Of a head."""
    causal: bool
    dtype: torch.dtype = torch.bfloat16

    @property
    def positions(self) -> int:
        """Of all rows and heads."""
        return self.segments.numel() * self.heads

    @property
    def vector(self) -> int:
        """Bytes of one position of one head."""
        return self.size * self.dtype.itemsize

    @property
    def pairs(self) -> int:
        """Of a query and a key that it sees, in all heads."""
        rows = (row[row != 0].unique(return_counts=True)[1] for row in self.segments)
        counts = torch.cat(list(rows))
        return self.heads * int((counts * (counts + 1) // 2 if self.causal else counts * counts).sum())


@dataclass(frozen=True)
class Reach:
    """How much the blocks of all rows and heads look at."""

    blocks: int
    keys: int
    """Positions that are loaded for the queries of a block, over all blocks."""
    queries: int
    """Positions that are loaded for the keys of a block."""


def measure_reach(shape: Shape, block: int, step: int) -> Reach:
    """By the loops of the kernels: from the start of a block's first segment to the end of its last one."""
    length = shape.segments.shape[1]
    blocks = keys = queries = 0

    def walked(start: int, end: int) -> int:
        steps = max(0, -(-(end - start) // step))
        return min(start + steps * step, length) - start

    for row in shape.segments.tolist():
        for first in range(0, length, block):
            last = min(first + block, length) - 1
            start = (first if row[first] == 0 else row.index(row[first])) // 16 * 16
            end = last + 1 if row[last] == 0 else length - row[::-1].index(row[last])
            blocks += 1
            keys += walked(start, min(end, first + block) if shape.causal else end)
            queries += walked(first if shape.causal else start, end)
    return Reach(shape.heads * blocks, shape.heads * keys, shape.heads * queries)


def _reach_by_table(name: str, shape: Shape) -> Reach:
    blocks = choose_blocks(f"{name}_float32" if shape.dtype == torch.float32 else name, shape.size)
    return measure_reach(shape, blocks["BLOCK"], blocks["STEP"])


def forward_cost(shape: Shape) -> Cost:
    """Of one forward pass with its log-sum-exp."""
    reach = _reach_by_table("attention_forward", shape)
    positions, vector = shape.positions, shape.vector
    numbers = INTEGER * shape.segments.numel()
    # each block looks through the segments of its row, and at two of them once more
    found = INTEGER * (shape.segments.shape[1] + 2) * reach.blocks
    read = found + positions * (INTEGER + vector) + reach.keys * (INTEGER + 2 * vector)
    written = positions * (vector + FLOAT)
    least = positions * 3 * vector + numbers + written
    return Cost(read, written, least, 2 * 2 * shape.size * shape.pairs)


def backward_cost(shape: Shape) -> Cost:
    """Of one backward pass."""
    reach = _reach_by_table("attention_backward", shape)
    positions, vector = shape.positions, shape.vector
    numbers = INTEGER * shape.segments.numel()
    found = INTEGER * (shape.segments.shape[1] + 2) * reach.blocks
    read = (
        found
        # of its own positions a block loads segment, query, key, value, output and its gradient, and log-sum-exp,
        + positions * (INTEGER + 5 * vector + FLOAT)
        # of the queries that look at it all but key and value, and of the keys that it looks at those
        + reach.queries * (INTEGER + 3 * vector + FLOAT)
        + reach.keys * (INTEGER + 2 * vector)
    )
    written = positions * 3 * vector
    least = positions * (5 * vector + FLOAT) + numbers + written
    # weights and their gradient, then three gradients; that the kernel computes the first two twice does not count
    return Cost(read, written, least, 5 * 2 * shape.size * shape.pairs)


def plain_bytes(shape: Shape, dropout: bool, backward: bool) -> int:
    """What `hzlm.kernels.attention.attention` reads and writes on a GPU, operation by operation."""
    rows, length = shape.segments.shape
    square = rows * length * length
    x = shape.positions * shape.vector
    bias = square * shape.dtype.itemsize
    scores = shape.heads * bias
    kept = shape.heads * square * BOOL
    # the mask: two comparands, then what is true (and not behind the query), then numbers
    moved = 2 * INTEGER * rows * length + (4 if shape.causal else 2) * BOOL * square + bias
    # copies of query, key and value by head; scores, scores + bias, softmax, product
    moved += 10 * x + 6 * scores + bias
    if backward:
        # a copy of the gradient; those of value and weights, the softmax, the scale, those of query and key
        moved += 10 * x + 9 * scores
    if dropout:
        moved += (2 if backward else 1) * (2 * scores + kept)
    return moved


def cases(model: ModelConfig, targets: int, tokens: int) -> list[Case]:
    """Rows full of sentences; beside them torch's `scaled_dot_product_attention` with a mask. `plain_moved` is what the
    scores cost where they are written to memory, as on CPUs: how much torch moves depends on what it chooses."""
    segments = pack_rows(max(1, tokens // LENGTH))
    draw = Draw(model.attention_dropout, 1)
    shapes = [Shape(segments, model.heads, model.hidden_size // model.heads, causal) for causal in (False, True)]
    return [make(shape, draw) for shape in shapes for make in (_forward_case, _both_case)]


def _forward_case(shape: Shape, draw: Draw) -> Case:
    return Case(
        "attention",
        _describe(shape),
        "forward",
        lambda device: _draw_inputs(shape, device),
        lambda query, key, value, segments: attention(query, key, value, segments, shape.causal, draw),
        lambda query, key, value, segments: _plain(query, key, value, segments, shape.causal, draw),
        forward_cost(shape),
        plain_bytes(shape, draw.rate > 0.0, backward=False),
        {
            "flash_attn": lambda query, key, value, segments: flash_attention(
                query, key, value, segments, shape.causal, draw
            )
        },
    )


def _both_case(shape: Shape, draw: Draw) -> Case:
    def make(device: torch.device) -> tuple[Tensor, ...]:
        *tensors, segments = _draw_inputs(shape, device)
        # nobody looks at padding
        direction = torch.randn_like(tensors[0]).masked_fill_((segments == 0)[:, :, None, None], 0.0)
        return *(x.requires_grad_() for x in tensors), segments, direction

    def differentiate(
        attend: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, segments: Tensor, direction: Tensor
    ) -> tuple[Tensor, ...]:
        out = attend(query, key, value, segments, shape.causal, draw)
        return torch.autograd.grad(out, (query, key, value), direction)

    return Case(
        "attention",
        _describe(shape),
        "both",
        make,
        partial(differentiate, attention),
        partial(differentiate, _plain),
        forward_cost(shape) + backward_cost(shape),
        plain_bytes(shape, draw.rate > 0.0, backward=True),
        {"flash_attn": partial(differentiate, flash_attention)},
    )


def _describe(shape: Shape) -> str:
    rows, length = shape.segments.shape
    return f"{rows} x {length} x {shape.heads} x {shape.size}{', causal' if shape.causal else ''}"


def _draw_inputs(shape: Shape, device: torch.device) -> tuple[Tensor, ...]:
    """Query, key, value, segments."""
    size = (*shape.segments.shape, shape.heads, shape.size)
    return *(torch.randn(size, dtype=shape.dtype, device=device) for _ in range(3)), shape.segments.to(device)


def _plain(query: Tensor, key: Tensor, value: Tensor, segments: Tensor, causal: bool, draw: Draw) -> Tensor:
    mask = attention_bias(segments, causal, query.dtype)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value, mask, draw.rate).transpose(1, 2)
