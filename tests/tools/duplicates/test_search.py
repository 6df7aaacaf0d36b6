from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.errors import UserError
from hzlm.tools.duplicates import search
from hzlm.tools.duplicates.key_files import KeyFile, write_keys
from hzlm.tools.duplicates.search import duplicates_of, find_duplicates, key_ranges, write_duplicates

# few different ones, among them the lowest, the highest and those on the border between two ranges
KEYS = st.sampled_from([0, 1, 7, (1 << 63) - 1, 1 << 63, (1 << 63) + 5, (1 << 64) - 1])
# chunks of items, each with its keys
CHUNKS = st.lists(st.lists(st.lists(KEYS, max_size=3), max_size=5), max_size=5)
CUTS = st.lists(st.integers(0, 1 << 64) | KEYS, max_size=4)

Chunk = Sequence[Sequence[int]]


def write_chunks(folder: Path, chunks: Sequence[Chunk]) -> list[Path]:
    """One key file for each chunk."""
    paths = [folder / f"{number}.npy" for number in range(len(chunks))]
    for path, chunk in zip(paths, chunks, strict=True):
        pairs = [(key, item) for item, keys in enumerate(chunk) for key in keys]
        write_keys(
            path, np.array([key for key, _ in pairs], np.uint64), np.array([item for _, item in pairs], np.uint32)
        )
    return paths


def repeated_items(chunks: Sequence[Chunk]) -> list[list[int]]:
    """For each chunk the items with a key that an earlier item has."""
    seen: set[int] = set()
    found = []
    for chunk in chunks:
        found.append([item for item, keys in enumerate(chunk) if _add(seen, keys)])
    return found


def _add(seen: set[int], keys: Sequence[int]) -> bool:
    known = not seen.isdisjoint(keys)
    seen.update(keys)
    return known


def search_all(folder: Path, chunks: Sequence[Chunk], ranges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The same through the files."""
    paths = write_chunks(folder, chunks)
    lists = [folder / f"range.{number}.npy" for number in range(len(ranges))]
    for path, (low, high) in zip(lists, ranges, strict=True):
        assert write_duplicates(path, find_duplicates(paths, low, high)) == len(np.load(path))
        assert np.all(np.diff(np.load(path).astype(object)) > 0)
    return [duplicates_of(chunk, lists).tolist() for chunk in range(len(chunks))]


@settings(max_examples=30)
@given(CHUNKS, CUTS)
def test_any_ranges_find_what_a_set_finds(chunks: list[Chunk], cuts: list[int]) -> None:
    bounds = sorted({0, *cuts, 1 << 64})
    with TemporaryDirectory() as folder:
        found = search_all(Path(folder), chunks, list(pairwise(bounds)))
    assert found == repeated_items(chunks)


@settings(max_examples=30)
@given(st.lists(st.lists(KEYS, max_size=3), max_size=12), st.lists(st.integers(0, 12), max_size=3))
def test_any_chunks_find_the_same_items(items: Chunk, cuts: list[int]) -> None:
    bounds = sorted({0, *(min(cut, len(items)) for cut in cuts), len(items)})
    chunks = [items[start:end] for start, end in pairwise(bounds)]
    with TemporaryDirectory() as folder:
        found = search_all(Path(folder), chunks, [(0, 1 << 64)])
    together = [start + item for start, part in zip(bounds, found, strict=False) for item in part]
    assert together == (repeated_items([items])[0] if items else [])


def test_what_connects_two_items_takes_neither_of_them_along(tmp_path: Path) -> None:
    assert search_all(tmp_path, [[[1], [7], [1, 7], [7]]], [(0, 1 << 64)]) == [[2, 3]]


def test_ranges_cover_all_keys_and_grow_in_number_with_the_corpus() -> None:
    assert key_ranges(0) == key_ranges(search.RANGE_KEYS) == [(0, 1 << 64)]
    ranges = key_ranges(10 * search.RANGE_KEYS - 3)
    assert len(ranges) == 10
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 1 << 64
    assert all(end == start for (_, end), (start, _) in pairwise(ranges))
    widths = [high - low for low, high in ranges]
    assert max(widths) - min(widths) <= 1


def test_key_files_hold_each_pair_once_sorted(tmp_path: Path) -> None:
    path = tmp_path / "keys.npy"
    assert write_keys(path, np.array([5, 2, 5, 5], np.uint64), np.array([1, 3, 0, 1], np.uint32)) == 3
    part = KeyFile.open(path)
    assert (part.keys.tolist(), part.items.tolist()) == ([2, 5, 5], [3, 0, 1])
    assert (part.keys.dtype, part.items.dtype) == (np.uint64, np.uint32)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path, other = write_chunks(tmp_path, [[[1], [7]], [[1]]])
    with pytest.raises(UserError, match=r"none\.npy: cannot read"):
        list(find_duplicates([tmp_path / "none.npy"], 0, 1 << 64))
    other.rename(path)
    with pytest.raises(UserError, match=r"0\.npy: 1 keys but 2 items: damaged"):
        list(find_duplicates([path], 0, 1 << 64))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"0\.npy: this file is damaged"):
        list(find_duplicates([path], 0, 1 << 64))
    np.save(path, np.zeros(2, np.float64))
    with pytest.raises(UserError, match=r"0\.npy: holds float64 \[2\], not uint64"):
        duplicates_of(0, [path])
