"""What the output projection with its cross entropy costs, never holding all logits, and with all of them held."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from hzlm.config import ModelConfig
from hzlm.kernels.cross_entropy import CrossEntropy
from hzlm.kernels.gpu.linear_cross_entropy import POSITIONS_AT_ONCE, linear_cross_entropy
from hzlm.tools.bench.kernels import cross_entropy
from hzlm.tools.bench.kernels.case import Case, Cost
from hzlm.tools.bench.kernels.peers import liger_linear_cross_entropy

Scorer = Callable[..., CrossEntropy]
FLOAT = 4
"""Bytes."""


def product_cost(positions: int, classes: int, width: int, size: int, gradient: bool) -> Cost:
    """Of what torch does around the kernel, each matrix read once for each product.

    The table's gradient is a product a chunk, added up in float32 and rounded at the end; the backward pass multiplies
    both gradients by that of the loss.

    Args:
        positions: of `hidden`.
        classes, width: of the table.
        size: bytes of an element.
        gradient: whether those of both are found.
    """
    chunks = -(-positions // POSITIONS_AT_ONCE)
    hidden, table, logits = positions * width * size, classes * width * size, positions * classes * size
    wide = classes * width * FLOAT
    flops = 2 * positions * classes * width
    least = hidden + table
    if not gradient:
        return Cost(hidden + chunks * table, logits, least, flops)
    read = 2 * hidden + 2 * logits + 2 * chunks * table + chunks * (table + wide) + wide + hidden + table
    written = logits + 2 * hidden + wide + chunks * (table + wide) + 2 * table
    return Cost(read, written, 2 * least, 3 * flops)


def cost(positions: int, classes: int, width: int, size: int, gradient: bool) -> Cost:
    """Of the whole, where all classes are here; see `product_cost`."""
    scored = cross_entropy.cost(positions, classes, size, gradient)
    # what is known of a position: the logits do not have to be moved at all
    labels = positions * cross_entropy.least_moved(0, size, gradient)
    return product_cost(positions, classes, width, size, gradient) + Cost(scored.read, scored.written, labels)


def plain_moved(positions: int, classes: int, width: int, size: int, gradient: bool) -> int:
    """Bytes that torch moves: the projection, the cross entropy, and two products backward."""
    hidden, table, logits = positions * width * size, classes * width * size, positions * classes * size
    scored = cross_entropy.plain_moved(positions, classes, size, 0.0, gradient)
    products = hidden + table + logits
    return scored + products * (3 if gradient else 1)


def cases(model: ModelConfig, targets: int, tokens: int) -> list[Case]:
    """All positions of a micro-batch."""
    width = model.hidden_size
    make = partial(_make, tokens, targets, width)
    shape = f"{tokens} x {width} x {targets}"
    return [
        Case(
            "linear_cross_entropy", shape, "forward", make, partial(_score, linear_cross_entropy),
            partial(_score, _plain), cost(tokens, targets, width, 2, False),
            plain_moved(tokens, targets, width, 2, False),
        ),
        Case(
            "linear_cross_entropy", shape, "both", make, partial(_differentiate, linear_cross_entropy),
            partial(_differentiate, _plain), cost(tokens, targets, width, 2, True),
            plain_moved(tokens, targets, width, 2, True), {"liger": _liger},
        ),
    ]  # fmt: skip


def _make(positions: int, classes: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, table, targets and weights."""
    hidden, table = (torch.randn(rows, width, dtype=torch.bfloat16, device=device) for rows in (positions, classes))
    weights = torch.full((positions,), 1.0 / positions, device=device)
    targets = torch.randint(classes, (positions,), device=device)
    return hidden.requires_grad_(), (table * width**-0.5).requires_grad_(), targets, weights


def _plain(hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor) -> CrossEntropy:
    return cross_entropy.plain(functional.linear(hidden, table), targets, weights, 0.0)


def _liger(hidden: Tensor, table: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(liger_linear_cross_entropy(hidden, table, targets), (hidden, table))


def _score(function: Scorer, *inputs: Tensor) -> CrossEntropy:
    with torch.no_grad():
        return function(*inputs)


def _differentiate(function: Scorer, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(function(*inputs).loss, inputs[:2])
