"""Dropout that depends on where an element stands, not on when it is drawn.

Each element has a counter made of its global place, and is kept or dropped by Philox4x32 of that counter and the
key of the dropout site (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; seven rounds, the fewest
that passed all their tests). So a backward pass, a recomputation and every tensor-parallel layout draw the same mask
without any of it being stored. The kernels draw like this; torch paths draw from torch's own generator, since on a CPU
a counter costs many times as much.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROUNDS = 7
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Draw:
    """The dropout of one site in one forward pass, on the part of the elements that this process has."""

    rate: float
    """Probability that an element is dropped, in [0, 1)."""
    seed: int
    """Key of the site, in [0, 2^63): other layers, sites, steps and micro-batches have other keys."""
    row: int = 0
    """Global number of the first row (of attention) or of the first token (elsewhere) that is here."""
    column: int = 0
    """Global number of the first head (of attention) or of the first feature (elsewhere; a multiple of 4)."""

    def __post_init__(self) -> None:
        """Raises ValueError: a number is out of its range."""
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f"draw.rate is {self.rate}; it must be in [0, 1)")
        for name, number, end in (("seed", self.seed, 63), ("row", self.row, 32), ("column", self.column, 32)):
            if not 0 <= number < 2**end:
                raise ValueError(f"draw.{name} is {number}; it must be in [0, 2^{end})")

    @property
    def threshold(self) -> int:
        """An element is dropped where its random 32 bits are less than this."""
        return round(self.rate * 2**32)

    @property
    def scale(self) -> float:
        """What the elements that are kept are multiplied by: one over the probability to be kept."""
        return 2**32 / (2**32 - self.threshold)


NO_DROPOUT = Draw(0.0, 0)
"""Everything is kept."""


def philox(counter: tuple[Words, Words, Words, Words], seed: int, rounds: int = ROUNDS) -> list[Words]:
    """Philox4x32 of counters (four arrays of 32-bit words, broadcast) under a key of 64 bits: four words each."""
    words = [np.asarray(word, np.uint64) for word in counter]
    key = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(rounds):
        first, second = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        high = np.uint64(32)
        words = [(second >> high) ^ words[1] ^ key[0], second & low, (first >> high) ^ words[3] ^ key[1], first & low]
        key = [(key[0] + np.uint64(0x9E3779B9)) & low, (key[1] + np.uint64(0xBB67AE85)) & low]
    return words


def _kept(draw: Draw, column: Words, second: Words, third: Words, fourth: Words) -> Tensor:
    """Element `column` has word column % 4 of the counter (column // 4, second, third, fourth)."""
    words = philox((column // np.uint64(4), second, third, fourth), draw.seed)
    drawn = np.choose((column % np.uint64(4)).astype(np.int64), np.broadcast_arrays(*words))
    return torch.from_numpy(drawn >= np.uint64(draw.threshold))


def kept_features(draw: Draw, tokens: int, width: int) -> Tensor:
    """Which elements of a tensor [tokens, width] are kept: bool."""
    token = draw.row + np.arange(tokens, dtype=np.uint64)[:, None]
    feature = draw.column + np.arange(width, dtype=np.uint64)[None, :]
    none = np.zeros_like(token)
    return _kept(draw, feature, token, none, none)


def kept_weights(draw: Draw, rows: int, heads: int, length: int) -> Tensor:
    """Which attention weights [rows, heads, queries, keys] are kept, of `length` queries and keys: bool."""
    row = draw.row + np.arange(rows, dtype=np.uint64)[:, None, None, None]
    head = draw.column + np.arange(heads, dtype=np.uint64)[None, :, None, None]
    query = np.arange(length, dtype=np.uint64)[None, None, :, None]
    key = np.arange(length, dtype=np.uint64)[None, None, None, :]
    return _kept(draw, key, query, head, row)
