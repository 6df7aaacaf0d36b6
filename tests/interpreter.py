"""Watches what interpreted Triton kernels read and write.

Every address is checked: it lies inside a tensor that the launch was given (between its first and its last element).
Memory that torch hands out is filled with NaN, so an element that no kernel wrote fails every comparison.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from triton.runtime import interpreter


@dataclass
class Traffic:
    """What the kernels moved while they were watched."""

    read: int = 0
    """Bytes."""
    written: int = 0
    """Bytes."""
    launches: int = 0


@contextmanager
def watch() -> Iterator[Traffic]:
    """Inside, interpreted kernels are watched, and new memory is poisoned."""
    traffic = Traffic()
    builder = interpreter.InterpreterBuilder
    load, store, call = builder.create_masked_load, builder.create_masked_store, interpreter.GridExecutor.__call__
    allowed: list[tuple[int, int]] = []

    def check(what: str, pointers: Any, mask: Any) -> int:
        addresses = np.asarray(pointers.data)[np.broadcast_to(np.asarray(mask.data, bool), pointers.data.shape)]
        size = pointers.get_element_ty().primitive_bitwidth // 8
        inside = np.zeros(addresses.shape, bool)
        for start, end in allowed:
            inside |= (addresses >= start) & (addresses + size <= end)
        assert inside.all(), f"{what} of {np.count_nonzero(~inside)} elements outside the tensors of the launch"
        return int(addresses.size) * size

    def watched_load(self: Any, pointers: Any, mask: Any, *others: Any) -> Any:
        traffic.read += check("load", pointers, mask)
        return load(self, pointers, mask, *others)

    def watched_store(self: Any, pointers: Any, value: Any, mask: Any, *others: Any) -> Any:
        traffic.written += check("store", pointers, mask)
        return store(self, pointers, value, mask, *others)

    def watched_call(self: Any, *arguments: Any, **named: Any) -> Any:
        traffic.launches += 1
        allowed[:] = [_extent(value) for value in (*arguments, *named.values()) if isinstance(value, Tensor)]
        return call(self, *arguments, **named)

    with (
        mock.patch.object(builder, "create_masked_load", watched_load),
        mock.patch.object(builder, "create_masked_store", watched_store),
        mock.patch.object(interpreter.GridExecutor, "__call__", watched_call),
        _poisoned_memory(),
    ):
        yield traffic


def _extent(tensor: Tensor) -> tuple[int, int]:
    """The addresses from a tensor's first element to behind its last one."""
    if tensor.numel() == 0:
        return 0, 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


@contextmanager
def _poisoned_memory() -> Iterator[None]:
    """`torch.empty` and its kin give NaN (of integers the largest number)."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def spread(tensor: Tensor, gap: int = 3) -> Tensor:
    """The same values with other strides, in the midst of NaN along every dimension; the last one's stride stays 1.

    A kernel that takes the tensor for contiguous, or reads outside it, meets NaN.
    """
    padded = [size + gap for size in tensor.shape]
    filler = float("nan") if tensor.is_floating_point() else 2**30
    buffer = torch.full(padded, filler, dtype=tensor.dtype)
    view = buffer[tuple(slice(1, 1 + size) for size in tensor.shape)]
    view.copy_(tensor)
    return view
