"""Everything that ranks tell each other, each with its backward. On an axis of one rank nothing is sent.

`enter` and `leave` stand at the borders of the part of a layer that is split over the tensor-parallel ranks (f and g
of Shoeybi et al. 2019, arXiv 1909.08053, figure 3; with `split_rows` the g and g-bar of Korthikanti et al. 2022).
Rows are the first dimension of every tensor here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from hzlm.parallel.mesh import Axis, Mesh
from hzlm.parallel.sharding import divide

# PyTorch 2.13 renames them, and warns of the names that it had before
_gather_into: Callable[..., Any] = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
_scatter_sum: Callable[..., Any] = (
    getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor
)


def enter(x: Tensor, mesh: Mesh) -> Tensor:
    """What every tensor-parallel rank needs whole: x itself, or with `split_rows` the rows of all ranks.

    Backward: the gradients of all ranks are summed; with `split_rows` each rank gets that of its own rows.
    """
    if mesh.tensor.size == 1:
        return x
    entered: Tensor = (_GatherRows if mesh.split_rows else _SumGradients).apply(x, mesh.tensor)
    return entered


def leave(x: Tensor, mesh: Mesh) -> Tensor:
    """The sum of the parts that the tensor-parallel ranks have computed; with `split_rows` of its own rows only.

    Backward: every rank gets the gradient of the sum, with `split_rows` gathered from all ranks.
    """
    if mesh.tensor.size == 1:
        return x
    left: Tensor = (_SumOwnRows if mesh.split_rows else _Sum).apply(x, mesh.tensor)
    return left


def own_rows(x: Tensor, mesh: Mesh) -> Tensor:
    """The rows that this rank holds outside attention and feed-forward: all, or with `split_rows` its part of them."""
    if not mesh.split_rows:
        return x
    return x.narrow(0, *divide(len(x), mesh.tensor))


def gather_rows(x: Tensor, axis: Axis) -> Tensor:
    """The rows of all ranks of an axis, one rank's after the other's, each rank having as many.

    Backward: the gradients of all ranks are summed; each gets that of its own rows.
    """
    if axis.size == 1:
        return x
    gathered: Tensor = _GatherRows.apply(x, axis)
    return gathered


def sum_parts(x: Tensor, axis: Axis) -> Tensor:
    """The sum of what the ranks of an axis have. Backward: every rank gets the gradient of the sum."""
    if axis.size == 1:
        return x
    summed: Tensor = _Sum.apply(x, axis)
    return summed


def share_gradient(x: Tensor, axis: Axis) -> Tensor:
    """x itself, for what all ranks of an axis compute alike from it: each contributes its share to the gradient.

    Backward: the gradient by the number of ranks.
    """
    if axis.size == 1:
        return x
    shared: Tensor = _ShareGradient.apply(x, axis)
    return shared


def all_gather(x: Tensor, axis: Axis) -> Tensor:
    """The tensors of all ranks, stacked in a new first dimension. No gradient flows."""
    if axis.size == 1:
        return x[None]
    gathered = x.new_empty((axis.size * len(x), *x.shape[1:]))
    _gather_into(gathered, x.contiguous(), group=axis.group)
    return gathered.view(axis.size, *x.shape)


def all_reduce(x: Tensor, axis: Axis) -> Tensor:
    """x, after the tensors of all ranks were summed into it. No gradient flows."""
    if axis.size > 1:
        distributed.all_reduce(x, group=axis.group)
    return x


def total(values: Sequence[float], axis: Axis, device: torch.device) -> list[float]:
    """The sum over the ranks of each of a few numbers, in float64."""
    if axis.size == 1:
        return list(values)
    return all_reduce(torch.tensor(values, dtype=torch.float64, device=device), axis).tolist()


def highest(value: int, axis: Axis, device: torch.device) -> int:
    """The largest of the ranks' numbers."""
    if axis.size == 1:
        return value
    found = torch.tensor(value, dtype=torch.int64, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX, group=axis.group)
    return int(found)


def gather_objects(value: Any, axis: Axis) -> list[Any]:
    """A small picklable value of each rank, by rank; for starting and saving, not for steps."""
    if axis.size == 1:
        return [value]
    found: list[Any] = [None] * axis.size
    distributed.all_gather_object(found, value, group=axis.group)
    return found


class _SumGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis) -> Tensor:
        ctx.axis = axis
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return all_reduce(gradient.clone(memory_format=torch.contiguous_format), ctx.axis), None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis) -> Tensor:
        return all_reduce(x.clone(memory_format=torch.contiguous_format), axis)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _ShareGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis) -> Tensor:
        ctx.axis = axis
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient / ctx.axis.size, None


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis) -> Tensor:
        ctx.axis = axis
        return all_gather(x, axis).flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _sum_own_rows(gradient, ctx.axis), None


class _SumOwnRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: Axis) -> Tensor:
        ctx.axis = axis
        return _sum_own_rows(x, axis)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return all_gather(gradient, ctx.axis).flatten(0, 1), None


def _sum_own_rows(x: Tensor, axis: Axis) -> Tensor:
    own = x.new_empty((len(x) // axis.size, *x.shape[1:]))
    _scatter_sum(own, x.contiguous(), group=axis.group)
    return own
