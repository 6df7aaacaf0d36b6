"""Megatron's MMIDIDX layout, version 1: sequences of numbers in a `.bin`, and an `.idx` that says where they are.

`.idx`, little-endian: magic (9 bytes), version u64, dtype code u8, sequence count S u64, document count D u64, then
lengths int32 [S], byte offsets into the `.bin` int64 [S], and int64 [D] the sequence at which each document starts,
closed by S itself. A byte a sequence may follow (Megatron's modes), which hzlm does not use.
"""

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
"""Magic, version, dtype code, S, D."""
LENGTH = struct.Struct("<i")
BORDER = struct.Struct("<q")
LONGEST = 2**31 - 1
"""Most numbers of one sequence."""
DTYPE_CODES = {"u1": 1, "i1": 2, "i2": 3, "i4": 4, "i8": 5, "f8": 6, "f4": 7, "u2": 8}
"""The layout's code of each dtype, by numpy's name."""

BLOCK = 1 << 18
"""Entries of an index that are worked on at once."""


def bin_path(prefix: Path) -> Path:
    """The file that holds the numbers."""
    return prefix.with_name(prefix.name + ".bin")


def idx_path(prefix: Path) -> Path:
    """The file that holds the index."""
    return prefix.with_name(prefix.name + ".idx")


def place_sequences(lengths: npt.NDArray[np.integer], start: int, itemsize: int) -> tuple[npt.NDArray[np.int64], int]:
    """Where sequences of these lengths [S] lie, one after the other, from byte `start` on.

    Returns:
        Their byte offsets int64 [S], and the byte where the last one ends.
    """
    sizes = lengths.astype(np.int64) * itemsize
    ends = start + np.cumsum(sizes)
    return ends - sizes, int(ends[-1])
