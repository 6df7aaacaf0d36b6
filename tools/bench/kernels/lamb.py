"""What the step of the optimizer costs: by bytes, over all parameters of a model in one process."""

from collections.abc import Sequence
from itertools import accumulate

import torch

from hzlm.config import ModelConfig
from hzlm.kernels import lamb as plain
from hzlm.kernels.gpu import lamb as gpu
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.lamb import Flat, Fragment, Layout, Settings
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.tools.bench.kernels.case import Case, Cost

FLOAT, DOUBLE, INTEGER, LONG = 4, 8, 4, 8
"""Bytes."""
MATRICES = Settings(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, trust=True, step=100)
VECTORS = Settings(lr=1e-3, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0, trust=False, step=100)


def lamb_cost(fragments: Sequence[Fragment], settings: Settings, block: int) -> Cost:
    """Of one flat tensor whose logical tensors all have had a gradient.

    Args:
        fragments: of it.
        settings: of its group.
        block: elements of a block.
    """
    elements = sum(fragment.numel for fragment in fragments)
    blocks = sum(-(-fragment.numel // block) for fragment in fragments)
    counted = [fragment for fragment in fragments if fragment.counted and fragment.numel > 0]
    tensors = len({fragment.number for fragment in counted})
    place = LONG + INTEGER
    least = 7 * FLOAT * elements
    # x, gradient and both moments in, both moments out
    moments = Cost(4 * FLOAT * elements + place * blocks, 2 * FLOAT * elements, least)
    if not settings.needs_sums:
        return moments + Cost(0, FLOAT * elements, 0)
    partial = Cost(0, 3 * FLOAT * blocks, 0)
    summands = sum(-(-fragment.numel // block) for fragment in counted)
    sums = Cost(3 * (3 * INTEGER + DOUBLE) * tensors + 3 * FLOAT * summands, 3 * DOUBLE * tensors, 0)
    row = INTEGER + (3 if settings.trust else 1) * DOUBLE
    # x and both moments in, x out
    return moments + partial + sums + Cost(3 * FLOAT * elements + (place + row) * blocks, FLOAT * elements, 0)


def cases(model: ModelConfig, targets: int, tokens: int) -> list[Case]:
    """Matrices with trust ratio and decay, vectors without; a vocabulary of nothing but targets."""
    with torch.device("meta"):
        parameters = list(EncoderDecoder(model, targets, 0).parameters())
    matrices = [parameter.numel() for parameter in parameters if parameter.dim() >= 2]
    vectors = [parameter.numel() for parameter in parameters if parameter.dim() < 2]
    return [
        # numbers that the operations of `plain` read and write, of each element
        _case("matrices", matrices, MATRICES, 24 * FLOAT),
        _case("vectors", vectors, VECTORS, 18 * FLOAT),
    ]


def _case(name: str, sizes: Sequence[int], settings: Settings, plain_bytes: int) -> Case:
    total, count = sum(sizes), len(sizes)
    starts = accumulate(sizes[:-1], initial=0)
    fragments = [Fragment(start, size, number) for number, (start, size) in enumerate(zip(starts, sizes, strict=True))]

    def make(device: torch.device) -> tuple[Flat]:
        x, gradient, m = (torch.randn(total, device=device) for _ in range(3))
        v = torch.rand(total, device=device)
        return (Flat(x, gradient, m, v, Layout(fragments), settings),)

    return Case(
        "lamb",
        f"{count} {name}, {total} elements",
        "forward",
        make,
        lambda flat: gpu.lamb([flat], count, flat.x.device),
        lambda flat: plain.lamb([flat], count, flat.x.device),
        lamb_cost(fragments, settings, choose_blocks("lamb", total)["BLOCK"]),
        plain_bytes * total,
    )
