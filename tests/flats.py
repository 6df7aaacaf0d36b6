"""Flat tensors in the midst of a training, for tests of the optimizer's step."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from hzlm.kernels.lamb import Flat, Fragment, Layout, Settings

CPU = torch.device("cpu")
GROUP = Settings(lr=0.01, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.05, trust=True, step=3)
KINDS = [(0.05, True), (0.0, True), (0.05, False), (0.0, False)]
"""Weight decay, and whether the ratio of the norms applies."""
SILENT = 1
"""The logical tensor that never had a gradient."""


def make_flat(sizes: Sequence[int], gap: int, group: Settings, dtype: torch.dtype = torch.float32) -> Flat:
    """Logical tensors of these sizes with gaps before, between and behind them."""
    generator = torch.Generator().manual_seed(len(sizes))
    start, fragments = gap, []
    for number, size in enumerate(sizes):
        fragments.append(Fragment(start, size, number))
        start += size + gap
    x, gradient, m, v = (torch.randn(start, generator=generator, dtype=dtype) for _ in range(4))
    v.square_()
    for fragment in fragments[SILENT : SILENT + 1]:
        for tensor in (gradient, m, v):
            fragment.of(tensor).zero_()
    return Flat(x, gradient, m, v, Layout(fragments), group)


def copy_flat(flat: Flat, dtype: torch.dtype = torch.float32) -> Flat:
    """The same in memory of its own."""
    tensors = (flat.x, flat.gradient, flat.m, flat.v)
    return Flat(*(tensor.to(dtype, copy=True) for tensor in tensors), layout=flat.layout, settings=flat.settings)


def of_kind(kind: tuple[float, bool]) -> Settings:
    """`GROUP` with one of `KINDS`."""
    return dataclasses.replace(GROUP, weight_decay=kind[0], trust=kind[1])


def check_step(ours: Flat, expected: Flat, before: Flat, tolerance: float) -> None:
    """After a step: each logical tensor is as expected, a silent one and what lies between them as before."""
    between = torch.ones(len(before.x), dtype=torch.bool)
    for fragment in before.layout.fragments:
        fragment.of(between).fill_(False)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = [
        (ours.x, expected.x, before.x),
        (ours.m, expected.m, before.m),
        (ours.v, expected.v, before.v),
    ]
    for found, wanted, start in pairs:
        assert torch.equal(found[between], start[between])
        for fragment in before.layout.fragments:
            a, b = fragment.of(found).double(), fragment.of(wanted).double()
            assert (a - b).norm() <= tolerance * b.norm()
            assert torch.equal(a, fragment.of(start).double()) == (fragment.number == SILENT)
