"""Random numbers that depend on what they are for, never on the layout of the run."""

import hashlib

import torch


def derive_seed(*key: int | str) -> int:
    """A 63-bit seed from a key such as (seed, "parameter", name): equal on every rank and machine."""
    text = "\x1f".join(str(part) for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def make_generator(*key: int | str) -> torch.Generator:
    """A CPU generator for one purpose, seeded by its key."""
    return torch.Generator().manual_seed(derive_seed(*key))
