"""What one position of attention over a cache costs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hzlm.config import ModelConfig
from hzlm.kernels.gpu.cached_attention import cached_attention
from hzlm.tools.bench.kernels.case import Case, Cost

INTEGER = 4
"""Bytes."""
ROWS = 256
"""Hypotheses: 64 sentences with 4 of each."""
LENGTHS = (32, 512)
"""Positions that all rows see: a sentence that somebody types, and the longest one."""


def cached_attention_cost(lengths: Sequence[int], heads: int, size: int, dtype: torch.dtype) -> Cost:
    """Of rows that see so many positions; nothing is read twice but the length of a row, by each head."""
    rows, vector = len(lengths), size * dtype.itemsize
    written = rows * heads * vector
    seen = rows * heads * vector + sum(lengths) * heads * 2 * vector
    products = 2 * 2 * sum(lengths) * heads * size
    return Cost(seen + rows * heads * INTEGER, written, seen + rows * INTEGER + written, products)


def plain_bytes(rows: int, length: int, heads: int, size: int, dtype: torch.dtype) -> int:
    """What two products, the scale and the softmax move: the scores too, written and read three times."""
    vector, scores = rows * heads * size * dtype.itemsize, rows * heads * length * dtype.itemsize
    return 2 * vector + 2 * length * vector + 6 * scores


def cases(model: ModelConfig, targets: int, tokens: int) -> list[Case]:
    """The cache of one layer as the decoder lays it out; all rows see the same number of positions."""
    return [_case(model.heads, model.hidden_size // model.heads, length) for length in LENGTHS]


def _case(heads: int, size: int, length: int) -> Case:
    dtype = torch.bfloat16

    def make(device: torch.device) -> tuple[Tensor, ...]:
        query = torch.randn(ROWS, heads, size, dtype=dtype, device=device)
        cache = torch.randn(length, 2, ROWS, heads, size, dtype=dtype, device=device).transpose(0, 2)
        return query, cache[:, 0], cache[:, 1], torch.full((ROWS,), length, dtype=torch.int32)

    return Case(
        "cached_attention",
        f"{ROWS} x {length} x {heads} x {size}",
        "forward",
        make,
        cached_attention,
        _plain,
        cached_attention_cost([length] * ROWS, heads, size, dtype),
        plain_bytes(ROWS, length, heads, size, dtype),
    )


def _plain(query: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """As the decoder computes on CPUs; all lengths are that of the cache."""
    size = query.shape[2]
    keys, values = (x.transpose(0, 1).flatten(1, 2).transpose(0, 1) for x in (keys, values))
    scores = torch.bmm(query.reshape(-1, 1, size), keys.transpose(1, 2)).mul_(size**-0.5)
    return torch.bmm(scores.softmax(dim=-1), values).view(query.shape)
