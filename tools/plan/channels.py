"""Who tells whom how much: the terms in which communication is counted, by formula and in a run."""

from dataclasses import dataclass

import torch

SHARES = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "broadcast": 1, "reduce": 1, "barrier": 1}
"""How often a ring moves a payload, but for one part: each rank of n sends shares * (n - 1) / n of it."""


@dataclass(frozen=True)
class Channel:
    """Who tells whom, and how."""

    operation: str
    """all_reduce, all_gather, reduce_scatter, broadcast, reduce, barrier, send or recv."""
    ranks: tuple[int, ...]
    """Global ranks of the group; of send and recv (source, destination)."""
    dtype: torch.dtype | None
    """None of a barrier."""

    def wire(self, payload: int) -> float:
        """The bytes that one rank sends, mean over the group, where collectives are rings (Thakur et al. 2005).

        All-reduce 2(n-1)/n of its payload; all-gather, reduce-scatter, broadcast and reduce (n-1)/n; send all; recv 0.
        """
        if self.operation in ("send", "recv"):
            return float(payload) if self.operation == "send" else 0.0
        size = len(self.ranks)
        return SHARES[self.operation] * (size - 1) * payload / size


@dataclass(frozen=True)
class Volume:
    """How much has gone through a channel."""

    calls: int
    """An operation that takes a list of tensors is one call."""
    payload: int
    """Bytes of the whole, on each rank alike: of the summed tensor, of what an all-gather gives, of what a
    reduce-scatter takes, of what is sent or received."""

    def __add__(self, other: "Volume") -> "Volume":
        return Volume(self.calls + other.calls, self.payload + other.payload)
