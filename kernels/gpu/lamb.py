"""`hzlm.kernels.lamb` in two passes over the memory, however many logical tensors there are.

Pass 1 moves the moments on and leaves partial sums of each block, a small kernel adds them up by logical tensor, and
pass 2 moves the parameters by the update, which it computes anew from the moments: 24 and 16 bytes an element. If
pass 1 wrote the update down for pass 2 it would be 28 and 12, just as many; but so a smaller part of them are writes,
and the gradient stays as it is. A flat tensor that needs no sums takes one pass of 28 bytes.

A table says of each block where it lies; it is made once for a layout. Nothing in a step waits for the device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import triton
import triton.language as tl
from torch import Tensor

from hzlm.kernels.checks import check_like
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.lamb import Flat, Layout, SumOver

SUMMANDS = 1024
"""Partial sums that are added up at once; a tensor of as many blocks is large."""


@triton.jit
def _update(x: tl.tensor, m: tl.tensor, v: tl.tensor, eps: tl.tensor, decay: tl.tensor) -> tl.tensor:
    """scale * (r + decay x), of `hzlm.kernels.lamb.Settings`. Root and quotient are good to 2 units in the last place;
    exact ones take twice the instructions."""
    return m / (tl.sqrt(v) + eps) + decay * x


@triton.jit
def _move_moments(
    xs: tl.tensor,
    gradients: tl.tensor,
    ms: tl.tensor,
    vs: tl.tensor,
    partial: tl.tensor,
    starts: tl.tensor,
    counts: tl.tensor,
    blocks: tl.tensor,
    weight1: tl.tensor,
    beta2: tl.tensor,
    weight2: tl.tensor,
    eps: tl.tensor,
    decay: tl.tensor,
    rate: tl.tensor,
    BLOCK: tl.constexpr,  # noqa: N803
    ALIGNMENT: tl.constexpr,  # noqa: N803
    NEEDS_SUMS: tl.constexpr,  # noqa: N803
) -> None:
    """Moves the moments of one block; then leaves its sums, or where none are needed moves the parameters as well."""
    block = tl.program_id(0)
    start = tl.multiple_of(tl.load(starts + block), ALIGNMENT)
    count = tl.multiple_of(tl.load(counts + block), ALIGNMENT)
    place = start + tl.arange(0, BLOCK)
    inside = tl.arange(0, BLOCK) < count
    x = tl.load(xs + place, inside, 0.0)
    g = tl.load(gradients + place, inside, 0.0)
    m = tl.load(ms + place, inside, 0.0)
    v = tl.load(vs + place, inside, 0.0)
    m += weight1 * (g - m)
    v = beta2 * v + weight2 * g * g
    tl.store(ms + place, m, inside)
    tl.store(vs + place, v, inside)
    update = _update(x, m, v, eps, decay)
    if NEEDS_SUMS:
        update = tl.where(inside, update, 0.0)  # with an eps of 0 it is 0 / 0 outside
        tl.store(partial + block, tl.sum(x * x))
        tl.store(partial + blocks + block, tl.sum(update * update))
        tl.store(partial + 2 * blocks + block, tl.max((v != 0.0).to(tl.float32)))
    else:
        tl.store(xs + place, x - rate * update, inside)


@triton.jit
def _add_sums(
    partial: tl.tensor,
    ranges: tl.tensor,
    sums: tl.tensor,
    blocks: tl.tensor,
    SUMMANDS: tl.constexpr,  # noqa: N803
) -> None:
    """Adds the partial sums of one logical tensor, of one kind of the three, to its row; always in the same order."""
    entry = ranges + 3 * tl.program_id(0)
    number, first, end = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    kind = tl.program_id(1)
    total = tl.zeros([SUMMANDS], tl.float64)
    for start in range(first, end, SUMMANDS):
        block = start + tl.arange(0, SUMMANDS)
        total += tl.load(partial + kind * blocks + block, block < end, 0.0).to(tl.float64)
    place = sums + 3 * number + kind
    tl.store(place, tl.load(place) + tl.sum(total))


@triton.jit
def _move_parameters(
    xs: tl.tensor,
    ms: tl.tensor,
    vs: tl.tensor,
    sums: tl.tensor,
    starts: tl.tensor,
    counts: tl.tensor,
    numbers: tl.tensor,
    eps: tl.tensor,
    decay: tl.tensor,
    rate: tl.tensor,
    lr: tl.tensor,
    BLOCK: tl.constexpr,  # noqa: N803
    ALIGNMENT: tl.constexpr,  # noqa: N803
    TRUST: tl.constexpr,  # noqa: N803
) -> None:
    """Moves the parameters of one block, if its logical tensor ever had a gradient."""
    # backwards: what pass 1 has touched last is in the cache
    block = tl.num_programs(0) - 1 - tl.program_id(0)
    row = sums + 3 * tl.load(numbers + block)
    if tl.load(row + 2) != 0.0:
        if TRUST:
            weight_norm = tl.sqrt_rn(tl.load(row).to(tl.float32))
            update_norm = tl.sqrt_rn(tl.load(row + 1).to(tl.float32))
            # the scale cancels
            rate = tl.where((weight_norm > 0.0) & (update_norm > 0.0), lr * (weight_norm / update_norm), rate)
        start = tl.multiple_of(tl.load(starts + block), ALIGNMENT)
        count = tl.multiple_of(tl.load(counts + block), ALIGNMENT)
        place = start + tl.arange(0, BLOCK)
        inside = tl.arange(0, BLOCK) < count
        x = tl.load(xs + place, inside, 0.0)
        m = tl.load(ms + place, inside, 0.0)
        v = tl.load(vs + place, inside, 0.0)
        tl.store(xs + place, x - rate * _update(x, m, v, eps, decay), inside)


@dataclass(frozen=True)
class _Table:
    """The blocks of a layout, those of one logical tensor one behind the other, as they lie on the device."""

    block: int
    """Elements of the largest."""
    starts: Tensor
    """int64 [blocks]: the first element of each; all of them lie in one fragment."""
    counts: Tensor
    """int32 [blocks]: elements."""
    numbers: Tensor
    """int32 [blocks]: of the logical tensor."""
    ranges: Tensor
    """int32 [tensors, 3]: the number of a logical tensor with counted blocks, its first block, and behind its last."""
    alignment: int
    """What every start and every count is a multiple of: 4 elements, which are the 16 bytes of a load, 2 or 1."""
    size: int
    """Elements that a flat tensor must have at least."""
    count: int
    """Logical tensors that there must be at least."""


_tables: WeakKeyDictionary[Layout, _Table] = WeakKeyDictionary()


def _table_of(layout: Layout, block: int, device: torch.device) -> _Table:
    table = _tables.get(layout)
    if table is None or table.block != block or table.starts.device != device:
        table = _tables[layout] = _make_table(layout, block, device)
    return table


def _make_table(layout: Layout, block: int, device: torch.device) -> _Table:
    blocks: list[tuple[int, int, int]] = []
    ranges: dict[int, tuple[int, int]] = {}
    fragments = sorted(layout.fragments, key=lambda fragment: (fragment.number, not fragment.counted))
    for fragment in fragments:
        first, end = len(blocks), fragment.start + fragment.numel
        blocks += [(start, min(block, end - start), fragment.number) for start in range(fragment.start, end, block)]
        if fragment.counted and fragment.numel > 0:
            first, _ = ranges.get(fragment.number, (first, first))
            ranges[fragment.number] = first, len(blocks)
    starts, counts, numbers = torch.tensor(blocks, dtype=torch.int64).reshape(-1, 3).T
    return _Table(
        block,
        starts.contiguous().to(device),
        counts.int().to(device),
        numbers.int().to(device),
        torch.tensor([(number, *found) for number, found in ranges.items()], dtype=torch.int32, device=device),
        math.gcd(4, *(number for fragment in fragments for number in (fragment.start, fragment.numel))),
        max((fragment.start + fragment.numel for fragment in fragments), default=0),
        max((fragment.number + 1 for fragment in fragments), default=0),
    )


@dataclass(frozen=True)
class _Work:
    """The launches of one flat tensor in one step."""

    flat: Flat
    table: _Table
    launch: dict[str, int]

    def move_moments(self, sums: Tensor) -> None:
        """Pass 1; adds to the sums [count, 3]."""
        flat, settings, table = self.flat, self.flat.settings, self.table
        beta1, beta2 = settings.betas
        blocks = len(table.starts)
        partial = torch.empty(3 * blocks if settings.needs_sums else 0, dtype=torch.float32, device=flat.x.device)
        _move_moments[(blocks,)](
            flat.x,
            flat.gradient,
            flat.m,
            flat.v,
            partial,
            table.starts,
            table.counts,
            blocks,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            *self._scalars(),
            ALIGNMENT=table.alignment,
            NEEDS_SUMS=settings.needs_sums,
            **self.launch,
        )
        if settings.needs_sums and len(table.ranges) > 0:
            _add_sums[(len(table.ranges), 3)](partial, table.ranges, sums, blocks, SUMMANDS=SUMMANDS)

    def move_parameters(self, sums: Tensor) -> None:
        """Pass 2, by the sums over all ranks."""
        flat, settings, table = self.flat, self.flat.settings, self.table
        _move_parameters[(len(table.starts),)](
            flat.x,
            flat.m,
            flat.v,
            sums,
            table.starts,
            table.counts,
            table.numbers,
            *self._scalars(),
            float(settings.lr),  # an integer would be compiled in
            ALIGNMENT=table.alignment,
            TRUST=settings.trust,
            **self.launch,
        )

    def _scalars(self) -> tuple[float, float, float]:
        """eps, decay, and what times the update a parameter moves by where no ratio applies."""
        settings = self.flat.settings
        return settings.scaled_eps, settings.scaled_decay, settings.lr / settings.scale


def _plan(name: str, flat: Flat, count: int, device: torch.device) -> _Work:
    for field in ("x", "gradient", "m", "v"):
        tensor: Tensor = getattr(flat, field)
        check_like(f"{name}.{field}", tensor, [flat.x.numel()], flat.x, torch.float32)
        if not tensor.is_contiguous():
            raise ValueError(f"{name}.{field} is not contiguous; it must be")
    if flat.x.device != device:
        raise ValueError(f"{name}.x is on {flat.x.device}; it must be on {device}")
    launch = choose_blocks("lamb", flat.x.numel())
    table = _table_of(flat.layout, launch["BLOCK"], device)
    if table.size > flat.x.numel():
        raise ValueError(f"{name}.layout ends at {table.size}; it must end within the {flat.x.numel()} elements of x")
    if table.count > count:
        raise ValueError(f"count is {count}; {name}.layout has a logical tensor of number {table.count - 1}")
    return _Work(flat, table, launch)


def lamb(flats: Sequence[Flat], count: int, device: torch.device, sum_over: SumOver | None = None) -> None:
    """As `hzlm.kernels.lamb.lamb`, on float32 tensors; the gradients stay as they are.

    Raises:
        ValueError: a tensor has not the shape, dtype or device that it must have; a layout does not fit it or `count`.
    """
    planned = [_plan(f"flats[{index}]", flat, count, device) for index, flat in enumerate(flats)]
    works = [work for work in planned if len(work.table.starts) > 0]
    sums = torch.zeros(count, 3, dtype=torch.float64, device=device)
    for work in works:
        work.move_moments(sums)
    if sum_over is not None:
        sums = sum_over(sums)
    for work in works:
        if work.flat.settings.needs_sums:
            work.move_parameters(sums)
