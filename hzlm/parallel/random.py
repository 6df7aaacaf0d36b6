"""Random numbers that depend on what they are for, never on the layout of the run."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from hzlm.parallel.mesh import Mesh


def derive_seed(*key: int | str) -> int:
    """A 63-bit seed from a key such as (seed, "parameter", name): equal on every rank and machine."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def make_generator(*key: int | str) -> torch.Generator:
    """A CPU generator for one purpose, seeded by its key."""
    return torch.Generator().manual_seed(derive_seed(*key))


@dataclass(frozen=True)
class Passage:
    """One layer in one forward pass of one step. A recomputation is given the passage of what it computes again."""

    key: tuple[int | str, ...]

    def derive_seed(self, site: str) -> int:
        """The Philox key of one dropout site (`hzlm.kernels.dropout`), the same on every rank."""
        return derive_seed(*self.key, site)


class Draws:
    """Counts the forward passes of the layers of a process, so that no two draw the same dropout.

    The passes of a layer within a step are its micro-batches, which every rank goes through in the same order.
    """

    def __init__(self) -> None:
        self._key: tuple[int | str, ...] = ()
        self._passes: Counter[str] = Counter()

    def begin(self, seed: int, purpose: str, step: int) -> None:
        """The passes from here on are those of a step."""
        self._key = (seed, purpose, step)
        self._passes.clear()

    def begin_pass(self, layer: str) -> Passage:
        """The next pass of a layer."""
        self._passes[layer] += 1
        return Passage((*self._key, layer, self._passes[layer]))


def seed_dropout(seed: int, purpose: str, step: int, mesh: Mesh) -> None:
    """Seeds torch for a step, as its own dropout on CPUs needs it.

    Tensor-parallel ranks that hold the same rows draw the same numbers, all others not.
    """
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
