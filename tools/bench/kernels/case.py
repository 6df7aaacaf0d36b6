"""One operation at one shape: what it moves and computes on paper, and how to run it and its unfused twin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch


@dataclass(frozen=True)
class Cost:
    """What the launches of an operation read, write and compute, by formula."""

    read: int
    """Bytes of all loads that the kernels issue; the tests check it against what the interpreter loads."""
    written: int
    """Bytes of all stores; likewise."""
    least: int
    """Bytes that have to be moved at least: each input once in, each output once out."""
    flops: int = 0
    """Of matrix products; what else is computed hides behind them or behind the memory."""

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return self.read + self.written

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.read + other.read,
            self.written + other.written,
            self.least + other.least,
            self.flops + other.flops,
        )


@dataclass(frozen=True)
class Case:
    """An operation at a shape that a config uses, in bf16."""

    operation: str
    """The file that the kernel stands in."""
    shape: str
    """For people: "16384 x 768"."""
    direction: Literal["forward", "both"]
    """Whether the functions run the backward pass as well."""
    inputs: Callable[[torch.device], tuple[Any, ...]]
    """Makes the inputs on a device (also on "meta", for compiling alone)."""
    kernel: Callable[..., Any]
    """Runs the Triton face on the inputs."""
    plain: Callable[..., Any]
    """Runs the sequence of torch operations that it replaces."""
    cost: Cost
    plain_moved: int
    """Bytes that the torch sequence reads and writes, by formula."""
    peers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Other people's kernels for the same, by name, on the inputs; ImportError where one is not installed."""
