"""Attention in Triton, forward and backward, against its definition in float64."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import Traffic, spread, watch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hzlm.kernels.attention import attention as torch_attention
from hzlm.kernels.attention import attention_reference
from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.kernels.gpu.attention import attention
from hzlm.tools.bench.kernels.attention import (
    LENGTH,
    SENTENCES,
    Shape,
    backward_cost,
    forward_cost,
    pack_rows,
    plain_bytes,
)

Layout = Literal["whole", "full", "end", "middle", "padding"]
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
# Of one plus the largest element, since what cancels was about 1. float32 rounds to 2^-24 = 6e-8, and sums some hundred
# products in another order. Of fp16 (2^-11 = 5e-4) and bf16 (2^-8 = 4e-3) a gradient sees output, weights, their
# gradient and itself rounded.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
DROPPED = Draw(0.3, 2**61 + 5, row=3, column=2)


def lay_out(layout: Layout, rows: int, length: int, seed: int = 0) -> Tensor:
    """Segments of random lengths, with padding in places."""
    generator = torch.Generator().manual_seed(seed)
    segments = torch.zeros(rows, length, dtype=torch.int32)
    for row in segments:
        place, number = 0, 0
        while place < length:
            place += int(torch.randint(1, 30, (), generator=generator))
            number += 1
            row[place - 1 :] = number
    segments += 1
    third = length // 3
    if layout == "whole":
        segments.fill_(7)
    if layout == "end":
        segments[:, 2 * third :] = 0
    if layout == "middle":
        # what comes behind the padding began there
        segments[:, 2 * third :] += length
        segments[:, third : 2 * third] = 0
    if layout == "padding":
        segments.zero_()
    return segments


def draw(rows: int, length: int, heads: int, size: int, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """Query, key, value and the direction of the gradient."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, length, heads, size, generator=generator).to(dtype) for _ in range(4)]


def run(
    inputs: Sequence[Tensor], segments: Tensor, causal: bool = False, draw: Draw = NO_DROPOUT
) -> tuple[list[Tensor], Traffic]:
    """Output and the three gradients, under watch."""
    leaves = [x.detach().requires_grad_() for x in inputs[:3]]
    with watch() as traffic:
        out = attention(*leaves, segments, causal, draw)
        gradients = torch.autograd.grad(out, leaves, inputs[3])
    return [out.detach(), *gradients], traffic


def define(inputs: Sequence[Tensor], segments: Tensor, causal: bool, draw: Draw) -> list[Tensor]:
    """The same by definition, in float64."""
    leaves = [x.detach().double().requires_grad_() for x in inputs[:3]]
    out = attention_reference(*leaves, segments, causal, draw)
    return [out.detach(), *torch.autograd.grad(out, leaves, inputs[3].double())]


def check(inputs: Sequence[Tensor], segments: Tensor, causal: bool = False, draw: Draw = NO_DROPOUT) -> None:
    ours, _ = run(inputs, segments, causal, draw)
    for x, expected in zip(ours, define(inputs, segments, causal, draw), strict=True):
        assert x.dtype == inputs[0].dtype
        assert x[segments == 0].eq(0.0).all()
        error = (x.double() - expected).abs().max() / (1 + expected.abs().max())
        assert error < TOLERANCE[x.dtype]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("dtype", "length", "size", "layout"),
    [
        # blocks of 16 in float32
        (torch.float32, 1, 64, "full"),
        (torch.float32, 13, 96, "end"),
        (torch.float32, 15, 32, "whole"),
        (torch.float32, 17, 32, "middle"),
        (torch.float32, 67, 64, "full"),
        # of 64 and 32 in half precision
        (torch.float16, 1, 32, "whole"),
        (torch.float16, 33, 64, "end"),
        (torch.float16, 63, 96, "full"),
        (torch.float16, 65, 128, "middle"),
        (torch.bfloat16, 31, 32, "middle"),
        (torch.bfloat16, 64, 64, "whole"),
        (torch.bfloat16, 151, 32, "full"),
        (torch.bfloat16, 10, 32, "padding"),
    ],
)
def test_equals_the_definition(dtype: torch.dtype, length: int, size: int, layout: Layout, causal: bool) -> None:
    check(draw(2, length, 1, size, dtype), lay_out(layout, 2, length), causal)


@settings(max_examples=8)
@given(
    st.integers(1, 2),
    st.integers(1, 45),
    st.integers(1, 2),
    st.sampled_from(FLOATS),
    st.sampled_from(["whole", "full", "end", "middle", "padding"]),
    st.booleans(),
    st.sampled_from([NO_DROPOUT, DROPPED]),
    st.integers(0, 2**31),
)
def test_equals_the_definition_of_any_shape(
    rows: int, length: int, heads: int, dtype: torch.dtype, layout: Layout, causal: bool, dropped: Draw, seed: int
) -> None:
    check(draw(rows, length, heads, 32, dtype, seed), lay_out(layout, rows, length, seed), causal, dropped)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("causal", [False, True])
def test_dropout_draws_the_mask_of_the_definition(dtype: torch.dtype, causal: bool) -> None:
    check(draw(2, 37, 2, 32, dtype), lay_out("end", 2, 37), causal, DROPPED)


def test_a_part_of_rows_and_heads_drops_what_the_whole_drops_there() -> None:
    inputs, segments = draw(2, 21, 3, 32, torch.float32), lay_out("full", 2, 21)
    whole, _ = run(inputs, segments, True, Draw(0.3, 9, row=4))
    part, _ = run([x[1:, :, 1:2] for x in inputs], segments[1:], True, Draw(0.3, 9, row=5, column=1))
    for ours, expected in zip(part, whole, strict=True):
        assert torch.equal(ours, expected[1:, :, 1:2])


def test_strides_do_not_matter() -> None:
    """Projections joined in one tensor are used as they lie; what cannot be is copied."""
    inputs, segments = draw(2, 19, 2, 32, torch.float32), lay_out("end", 2, 19)
    expected, _ = run(inputs, segments)
    joined = torch.stack(inputs, 2).unbind(2)
    swapped = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in inputs]
    for others in (joined, swapped, [spread(x) for x in inputs]):
        found, _ = run(others, spread(segments))
        assert all(map(torch.equal, found, expected))
    inputs[3] = inputs[3][:1, :1, :1, :1].expand_as(inputs[3])
    check(inputs, segments)


def test_strides_of_rows_of_one_position_do_not_matter() -> None:
    """That of the positions, which are one, may be anything then."""
    inputs, segments = draw(3, 1, 2, 32, torch.float32), torch.ones(3, 1, dtype=torch.int32)
    check([torch.stack([x[:, 0], x[:, 0]]).transpose(0, 1)[:, :1] for x in inputs], segments)
    check([x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs], segments)


def test_a_batch_may_be_empty() -> None:
    found, traffic = run(draw(0, 5, 2, 32, torch.float32), lay_out("full", 0, 5))
    assert [x.shape for x in found] == [(0, 5, 2, 32)] * 4
    assert traffic.launches == 0


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("causal", [False, True])
def test_what_is_no_number_stays_in_its_segment(which: int, causal: bool) -> None:
    """In the query, or in the key."""
    inputs, segments = draw(1, 40, 1, 32, torch.float32), torch.tensor([[1] * 9 + [2] * 12 + [3] * 11 + [0] * 8]).int()
    expected, _ = run(inputs, segments, causal)
    inputs[which][0, 12, 0, 3] = float("nan")
    out = run(inputs, segments, causal)[0][0]
    assert out[0, 12].isnan().all()
    assert torch.equal(out[segments != 2], expected[0][segments != 2])


def test_runs_give_equal_bits() -> None:
    inputs, segments = draw(2, 37, 2, 32, torch.float16), lay_out("full", 2, 37)
    first, second = (run(inputs, segments, True, DROPPED)[0] for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize(
    ("argument", "change", "message"),
    [
        ("query", lambda x: x.double(), r"query is torch\.float64"),
        ("query", lambda x: x[0], "query has 3 dimensions"),
        ("query", lambda x: x[..., :24], "query has head size 24; it must be one of 32, 64, 96, 128"),
        ("key", lambda x: x[:, :4], r"key has shape \[2, 4, 2, 32\]"),
        ("key", lambda x: x.half(), r"key is torch\.float16"),
        ("key", lambda x: x.to("meta"), "key is on meta"),
        ("value", lambda x: x[:, :, :1], r"value has shape"),
        ("value", lambda x: x.bfloat16(), r"value is torch\.bfloat16"),
        ("segments", lambda x: x.long(), r"segments is torch\.int64"),
        ("segments", lambda x: x[:1], r"segments has shape \[1, 5\]; it must be \[2, 5\]"),
    ],
)
def test_wrong_arguments_are_refused(argument: str, change: Callable[[Tensor], Tensor], message: str) -> None:
    names = ("query", "key", "value")
    arguments = {**dict(zip(names, draw(2, 5, 2, 32, torch.float32), strict=False)), "segments": lay_out("full", 2, 5)}
    arguments[argument] = change(arguments[argument])
    with watch() as traffic, pytest.raises(ValueError, match=message):
        attention(**arguments)
    assert traffic.launches == 0


@pytest.mark.parametrize("layout", ["whole", "full", "middle", "padding"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moves_what_the_formulas_say(layout: Layout, causal: bool, dtype: torch.dtype) -> None:
    segments = lay_out(layout, 2, 75, seed=1)
    _, traffic = run(draw(2, 75, 1, 32, dtype), segments, causal)
    shape = Shape(segments, 1, 32, causal, dtype)
    cost = forward_cost(shape) + backward_cost(shape)
    assert (traffic.read, traffic.written, traffic.launches) == (cost.read, cost.written, 2)
    visible = (segments[:, :, None] == segments[:, None]) & (segments != 0)[:, None]
    assert shape.pairs == (visible.tril() if causal else visible).sum()


def test_what_lies_outside_a_segment_is_not_loaded() -> None:
    inputs, short = draw(1, 256, 1, 32, torch.bfloat16), torch.arange(256, dtype=torch.int32)[None] // 8 + 1
    moved = [run(inputs, segments)[1].read for segments in (short, torch.ones_like(short))]
    assert moved[0] < 0.4 * moved[1]


class Bytes(TorchDispatchMode):
    """Counts what operations read and write, but for those that only look at a tensor in another way."""

    VIEWS = ("transpose", "expand", "view", "_unsafe_view", "unsqueeze", "unbind", "detach", "empty_like")

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ not in self.VIEWS:
            tensors = [x for x in (*args, result) if isinstance(x, Tensor) and x.dim() > 0]
            self.moved += sum(x.numel() * x.element_size() for x in tensors)
        return result


@pytest.mark.parametrize("causal", [False, True])
def test_torch_moves_what_the_formula_says(causal: bool) -> None:
    *leaves, direction = (x.to("meta").requires_grad_() for x in draw(2, 7, 3, 32, torch.bfloat16))
    segments = torch.ones(2, 7, dtype=torch.int32)
    nowhere = segments.to("meta")
    with Bytes() as counted:
        out = torch_attention(*leaves, nowhere, causal)
        forward = counted.moved
        torch.autograd.grad(out, leaves, direction)
    shape = Shape(segments, 3, 32, causal)
    assert (forward, counted.moved) == tuple(plain_bytes(shape, False, backward) for backward in (False, True))


def test_rows_are_filled_with_sentences() -> None:
    segments = pack_rows(3)
    counts = torch.cat([row[row != 0].unique_consecutive(return_counts=True)[1] for row in segments])
    assert SENTENCES[0] <= counts.min() <= counts.max() <= SENTENCES[1]
    assert (segments == 0).sum(1).max() < SENTENCES[1]
    assert segments.shape == (3, LENGTH)
