"""Random numbers that depend on what they are for, never on the layout of the run."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hzlm.parallel.mesh import Mesh


def derive_seed(*key: int | str) -> int:
    """A 63-bit seed from a key such as (seed, "parameter", name): equal on every rank and machine."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def make_generator(*key: int | str) -> torch.Generator:
    """A CPU generator for one purpose, seeded by its key."""
    return torch.Generator().manual_seed(derive_seed(*key))


def seed_dropout(seed: int, purpose: str, step: int, mesh: Mesh) -> None:
    """Seeds torch for a step: tensor-parallel ranks that hold the same rows draw the same numbers, all others not."""
    rows_of = mesh.tensor.index if mesh.split_rows else 0
    torch.manual_seed(derive_seed(seed, purpose, step, mesh.pipe.index, mesh.data.index, rows_of))


@contextmanager
def own_randomness(mesh: Mesh, wanted: bool = True) -> Iterator[None]:
    """Where tensor-parallel ranks work on different heads: inside, they draw different numbers; afterwards the same."""
    if not wanted or mesh.tensor.size == 1 or mesh.split_rows:
        yield
        return
    seed = int(torch.randint(1 << 62, ()))
    with torch.random.fork_rng([mesh.device] if mesh.device.type == "cuda" else []):
        torch.manual_seed(seed + mesh.tensor.index)
        yield
