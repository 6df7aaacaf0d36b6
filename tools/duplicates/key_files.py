"""Sorted keys on disk: for each chunk of the text, which key which of its items has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hzlm.errors import UserError
from hzlm.stored_files import replacing

_REMEDY = "remove it and run this again"


@dataclass(frozen=True)
class KeyFile:
    """The keys of one chunk, memory-mapped."""

    keys: NDArray[np.uint64]
    """[K], ascending."""
    items: NDArray[np.uint32]
    """[K], the item of the chunk (document or sentence) that has the key; ascending where keys are equal."""

    @classmethod
    def open(cls, path: Path) -> "KeyFile":
        """Opens what `write_keys` wrote.

        Raises:
            UserError: a file is missing or damaged.
        """
        keys, items = map_array(path, np.uint64), map_array(_items_path(path), np.uint32)
        if len(keys) != len(items):
            raise UserError(f"{path}: {len(keys)} keys but {len(items)} items: damaged; {_REMEDY}")
        return cls(keys, items)

    def between(self, low: int, high: int) -> "KeyFile":
        """The part with low <= key < high, for 0 <= low <= high <= 2^64."""
        start, end = (
            len(self.keys) if key >> 64 else int(np.searchsorted(self.keys, np.uint64(key))) for key in (low, high)
        )
        return KeyFile(self.keys[start:end], self.items[start:end])


def write_keys(path: Path, keys: NDArray[np.uint64], items: NDArray[np.uint32]) -> int:
    """Writes the keys of one chunk, sorted: `path` (.npy, uint64 [K]) and beside it the items (.items.npy, uint32 [K]).

    Args:
        path: ends in .npy; where it is there, both files are whole.
        keys: [K'], in any order.
        items: [K'], the item that has the key; an item may have several keys, and the same one repeatedly.

    Returns:
        K, the number of different pairs of key and item, which are what is written.
    """
    order = np.lexsort((items, keys))
    keys, items = keys[order], items[order]
    new = np.ones(len(keys), np.bool_)
    new[1:] = (keys[1:] != keys[:-1]) | (items[1:] != items[:-1])
    # The keys come last: who finds them finds the items.
    for target, array in ((_items_path(path), items[new].astype(np.uint32)), (path, keys[new].astype(np.uint64))):
        with replacing(target) as temporary, temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    return int(new.sum())


def map_array(path: Path, dtype: type[np.generic]) -> NDArray[Any]:
    """A one-dimensional .npy file, memory-mapped.

    Raises:
        UserError: it is missing, damaged or of another type.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot read this file: {error.strerror}; {_REMEDY}") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: this file is damaged ({error}); {_REMEDY}") from error
    if array.dtype != dtype or array.ndim != 1:
        raise UserError(f"{path}: holds {array.dtype} {list(array.shape)}, not {np.dtype(dtype)} [K]; {_REMEDY}")
    return np.asarray(array)


def _items_path(path: Path) -> Path:
    return path.with_suffix(".items.npy")
