"""The search for keys that occurred before, one range of keys at a time.

A corpus is cut into chunks, each with its `KeyFile`. A range of keys is one task, which looks at the entries of that
range in all key files. So tasks need nothing of one another, each takes the same memory however large the corpus is,
and what they find depends on the order of chunks and items alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from hzlm.stored_files import replacing
from hzlm.tools.duplicates.key_files import KeyFile, map_array

RANGE_KEYS = 1 << 23
"""Keys of one range. A search of it takes under 250 MB in all."""


def key_ranges(total_keys: int) -> list[tuple[int, int]]:
    """Ranges (low, high), low <= key < high, that cover all 64-bit keys and hold about `RANGE_KEYS` of the corpus each.

    Keys are hashes, so ranges of equal width hold about equally many different ones.
    """
    count = max(1, -(-total_keys // RANGE_KEYS))
    bounds = [(number << 64) // count for number in range(count + 1)]
    return list(pairwise(bounds))


def find_duplicates(key_files: Sequence[Path], low: int, high: int) -> Iterator[NDArray[np.uint64]]:
    """The items with a key that an earlier item has: one of a chunk before, or one before in the same chunk.

    An item is dropped for its own earlier neighbour and for nothing else, also where that neighbour is dropped itself.
    Connected components of the neighbourhoods, the usual alternative, keep one item each: where C is like A and like
    B, which differ, they drop B as well as C; here A and B stay. So no more is dropped than by components, every
    dropped item has an earlier one like it, and there is no graph to hold in memory.

    Args:
        key_files: of chunk 0, 1, ...
        low: the lowest key that is looked at.
        high: the first key beyond it that is not.

    Yields:
        places (`chunk << 32 | item`), uint64 [P], for each chunk that has any; ascending and different in all.

    Raises:
        UserError: a key file is missing or damaged.
    """
    repeated = _repeated_keys(key_files, low, high)
    seen = np.zeros(len(repeated), np.bool_)
    for chunk, path in enumerate(key_files if len(repeated) else ()):
        part = KeyFile.open(path).between(low, high)
        which = np.minimum(np.searchsorted(repeated, part.keys), len(repeated) - 1)
        shared = repeated[which] == part.keys
        which, items = which[shared], part.items[shared]
        before = seen[which]
        before[1:] |= which[1:] == which[:-1]
        seen[which] = True
        if before.any():
            yield np.unique(items[before]).astype(np.uint64) | np.uint64(chunk << 32)


def write_duplicates(path: Path, places: Iterable[NDArray[np.uint64]]) -> int:
    """Writes what `find_duplicates` yields, as it comes, into one .npy file; returns how many places that are."""
    count = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        _write_header(file, count)
        for part in places:
            part.tofile(file)
            count += len(part)
        # numpy leaves room in the header for a length that grows.
        file.seek(0)
        _write_header(file, count)
    return count


def duplicates_of(chunk: int, lists: Sequence[Path]) -> NDArray[np.uint32]:
    """The items of a chunk that are in any of the files of `write_duplicates`: ascending and different, [items].

    Raises:
        UserError: a file is missing or damaged.
    """
    found = [np.empty(0, np.uint64)]
    for path in lists:
        places = map_array(path, np.uint64)
        start, end = np.searchsorted(places, np.array([chunk << 32, (chunk + 1) << 32], np.uint64))
        found.append(places[start:end])
    return np.unique(np.concatenate(found).astype(np.uint32))


def _repeated_keys(key_files: Sequence[Path], low: int, high: int) -> NDArray[np.uint64]:
    """The keys of the range that several items have, ascending and different."""
    parts: list[NDArray[np.uint64]] = []
    repeated = [np.empty(0, np.uint64)]
    for path in key_files:
        keys = KeyFile.open(path).between(low, high).keys
        again = np.zeros(len(keys), np.bool_)
        again[1:] = keys[1:] == keys[:-1]
        repeated.append(np.unique(keys[again]))
        # Once a file, so that a key that half of the corpus has takes no memory to speak of.
        parts.append(keys[~again])
    merged = np.concatenate([np.empty(0, np.uint64), *parts])
    parts.clear()
    merged.sort()
    repeated.append(merged[1:][merged[1:] == merged[:-1]])
    del merged
    return np.unique(np.concatenate(repeated))


def _write_header(file: BinaryIO, count: int) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<u8", "fortran_order": False, "shape": (count,)})
