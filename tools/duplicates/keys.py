"""Keys of texts: equal for equal texts, and sets of keys of which similar texts share one."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hzlm.tools.duplicates.hanzi import blocks, hash_windows, mix, ngrams, project

HASHES = 112
"""Hash functions of a signature; as 14 bands of 8 rows they find similarities from 0.72 on."""

# Few enough for their hashes to stay in the cache while all hash functions go over them.
_BLOCK_CHARACTERS = 1 << 15


def exact_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """64-bit hashes (BLAKE2b) of the hanzi of each text, uint64 [D]; of all characters where it has fewer than 2 hanzi.

    Different texts may get the same key, by chance: 0.03 pairs of them are to be expected among 10^9 texts.
    """
    hanzi = project(texts)
    content = memoryview(hanzi.codes.tobytes())
    bounds = pairwise((hanzi.starts * hanzi.codes.itemsize).tolist())
    digests = (hashlib.blake2b(content[start:end], digest_size=8).digest() for start, end in bounds)
    return np.frombuffer(b"".join(digests), "<u8")


def near_keys(texts: Sequence[str], length: int, similarity: float) -> NDArray[np.uint64]:
    """Keys of which similar texts probably share one: MinHash (Broder 1997), its values taken together in bands.

    The similarity s of two texts is the Jaccard index of their sets of n-grams of hanzi: common ones over all. They
    share a key with probability 1 - (1 - s^rows)^bands. A text of fewer than `length` hanzi is one n-gram, so that only
    equal ones are similar to it; one of fewer than 2 hanzi is compared by all its characters.

    Args:
        texts: D of them.
        length: hanzi of an n-gram.
        similarity: where that probability is about 63 % (1 - 1/e), in (0, 1]; `choose_bands` derives the bands from it.

    Returns:
        uint64 [D, bands]; no key of one band equals one of another (but by chance).
    """
    bands, rows = choose_bands(similarity)
    # Odd, so that each is a permutation of the 32-bit numbers; they are hashes, so multiplying shuffles them enough.
    multipliers = mix(np.arange(bands * rows, dtype=np.uint64)).astype(np.uint32) | np.uint32(1)
    keys = [np.empty((0, bands), np.uint64)]
    for block in blocks(texts, map(len, texts), _BLOCK_CHARACTERS):
        keys.append(_band_keys(_signatures(block, length, multipliers).reshape(bands, rows, len(block))))
    return np.concatenate(keys)


def choose_bands(similarity: float) -> tuple[int, int]:
    """(bands, rows), at most `HASHES` in product, whose threshold (1 / bands)^(1 / rows) is next to `similarity`."""
    candidates = [(HASHES // rows, rows) for rows in range(1, HASHES + 1)]
    return min(candidates, key=lambda shape: abs((1 / shape[0]) ** (1 / shape[1]) - similarity))


def _signatures(texts: Sequence[str], length: int, multipliers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The smallest value of each hash function over the n-grams of each text, [hash functions, D]."""
    hanzi = project(texts)
    windows, first = ngrams(hanzi.starts, length)
    hashes = (hash_windows(hanzi.codes, windows) >> np.uint64(32)).astype(np.uint32)
    signatures = np.empty((len(multipliers), len(texts)), np.uint32)
    values = np.empty_like(hashes)
    for signature, multiplier in zip(signatures, multipliers, strict=True):
        np.multiply(hashes, multiplier, out=values)
        np.minimum.reduceat(values, first[:-1], out=signature)
    return signatures


def _band_keys(signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """[bands, rows, D] -> [D, bands]."""
    bands, rows, texts = signatures.shape
    keys = np.broadcast_to(mix(np.arange(bands, dtype=np.uint64))[:, None], (bands, texts))
    for row in range(rows):
        keys = mix(keys ^ signatures[:, row])
    return keys.T
