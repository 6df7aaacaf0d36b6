"""The Triton kernels around a sublayer, interpreted, against their definition in float64."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from interpreter import spread, watch
from torch import Tensor

from hzlm.kernels import layer_norm as plain
from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.kernels.gpu import layer_norm as kernel
from hzlm.tools.bench.kernels.layer_norm import SHAPES, Face, backward_cost, forward_cost

# Each number is rounded once, to 8, 11 or 24 bits; the interpreter cuts bfloat16 off where a GPU rounds.
TOLERANCES = {torch.bfloat16: 2**-7, torch.float16: 2**-11, torch.float32: 2**-20}
ROUNDINGS = 1e-5
"""What the sums in float32 add: some steps of 2^-24, times numbers up to 5 and a reciprocal deviation up to 3."""
EPS = 0.1
"""Bounds that deviation."""
DROPOUT = Draw(0.3, seed=123_456_789_012_345, row=5, column=8)


class Inputs(NamedTuple):
    """What `add_layer_norm` takes, then the gradients of its outputs."""

    x: Tensor
    bias: Tensor
    residual: Tensor
    weight: Tensor
    shift: Tensor
    total_gradient: Tensor
    normal_gradient: Tensor


def make(shape: Sequence[int], dtype: torch.dtype, seed: int = 0, scattered: bool = False) -> Inputs:
    """Random inputs; scattered: each with strides of its own."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (shape, shape[-1:], shape, shape[-1:], shape[-1:], shape, shape)
    tensors = [torch.randn(*size, generator=generator).to(dtype) for size in shapes]
    if scattered:
        tensors = [spread(tensor, gap) for gap, tensor in enumerate(tensors, start=2)]
    return Inputs(*tensors)


class _Reference:
    """The definitions under the names of the faces."""

    add = staticmethod(plain.add_reference)
    layer_norm = staticmethod(plain.layer_norm_reference)
    add_layer_norm = staticmethod(plain.add_layer_norm_reference)


MODULES: tuple[Any, ...] = (kernel, _Reference)
Gradients = tuple[Tensor | None, ...]


def gradients_of(face: Face, inputs: Inputs) -> tuple[Tensor, ...]:
    """Of the outputs of a face."""
    return {"add_layer_norm": inputs[5:], "add": inputs[5:6], "layer_norm": inputs[6:]}[face]


def run(face: Face, inputs: Inputs, draw: Draw, module: Any = kernel) -> tuple[list[Tensor], Gradients]:
    """Outputs, and the gradients of x, bias, residual, weight and shift; None where the face does not take one."""
    x, bias, residual, weight, shift = leaves = [tensor.detach().requires_grad_() for tensor in inputs[:5]]
    if face == "add_layer_norm":
        outputs = module.add_layer_norm(x, bias, residual, weight, shift, draw, EPS)
    elif face == "add":
        outputs = [module.add(x, bias, residual, draw)]
    else:
        outputs = [module.layer_norm(x, weight, shift, EPS)]
    found = torch.autograd.grad(outputs, leaves, gradients_of(face, inputs), allow_unused=True)
    return [output.detach() for output in outputs], found


def expect(face: Face, inputs: Inputs, draw: Draw, total: Tensor) -> tuple[list[Tensor], Gradients]:
    """The same in float64, LayerNorm of the `total` that was found: the rounded one."""
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs[:5]]
    x, bias, residual, weight, shift = wide
    exact = x if face == "layer_norm" else plain.add_reference(x, bias, residual, draw)
    rounded = exact + (total.double() - exact).detach()
    normal = plain.layer_norm_reference(rounded, weight, shift, EPS)
    outputs = {"add_layer_norm": [exact, normal], "add": [exact], "layer_norm": [normal]}[face]
    given = [gradient.double() for gradient in gradients_of(face, inputs)]
    return outputs, torch.autograd.grad(outputs, wide, given, allow_unused=True)


def assert_near(found: Sequence[Tensor | None], expected: Sequence[Tensor | None], dtype: torch.dtype) -> None:
    """Equal but for rounding."""
    for ours, theirs in zip(found, expected, strict=True):
        if ours is None or theirs is None:
            assert ours is theirs
        elif theirs.numel() > 0:
            assert ours.dtype == dtype
            torch.testing.assert_close(ours.double(), theirs, rtol=TOLERANCES[dtype], atol=ROUNDINGS)


def check(face: Face, inputs: Inputs, draw: Draw) -> None:
    with watch():
        outputs, gradients = run(face, inputs, draw)
    total = inputs.x if face == "layer_norm" else outputs[0]
    expected_outputs, expected_gradients = expect(face, inputs, draw, total)
    assert_near(outputs, expected_outputs, inputs.x.dtype)
    assert_near(gradients, expected_gradients, inputs.x.dtype)


@settings(max_examples=25)
@given(
    st.sampled_from(list(SHAPES)),
    st.integers(0, 19),
    st.sampled_from([1, 2, 3, 4, 5, 31, 63, 64, 65, 127, 131, 257]),
    st.sampled_from(list(TOLERANCES)),
    st.booleans(),
    st.booleans(),
)
@example("add_layer_norm", 5, 1030, torch.bfloat16, True, True)
def test_equals_the_definition(
    face: Face, tokens: int, width: int, dtype: torch.dtype, dropout: bool, scattered: bool
) -> None:
    check(face, make((tokens, width), dtype, tokens, scattered), DROPOUT if dropout else NO_DROPOUT)


@pytest.mark.parametrize("face", SHAPES)
@pytest.mark.parametrize("shape", [(7,), (2, 3, 12)])
def test_leading_dimensions(face: Face, shape: tuple[int, ...]) -> None:
    check(face, make(shape, torch.float32, scattered=True), DROPOUT)


@pytest.mark.parametrize("face", SHAPES)
def test_a_program_may_have_several_blocks(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: more tokens than programs, more partial sums than are added at once."""
    blocks: dict[str, dict[str, int]] = {
        "layer_norm": {"ROWS": 2},
        "layer_norm_backward": {"ROWS": 2, "PROGRAMS": 3, "num_stages": 1},
        "column_sums": {"ROWS": 2, "COLUMNS": 4},
    }
    monkeypatch.setattr(kernel, "choose_blocks", lambda operation, size: dict(blocks[operation]))
    check(face, make((15, 10), torch.float32), DROPOUT)


def test_the_widest_row() -> None:
    inputs = make((2, kernel.WIDEST), torch.bfloat16)
    with torch.no_grad(), watch():
        total, normal = kernel.add_layer_norm(*inputs[:5], DROPOUT, EPS)
    assert_near([total, normal], expect("add_layer_norm", inputs, DROPOUT, total)[0], torch.bfloat16)


def test_statistics_are_those_of_the_rounded_sum() -> None:
    """Around 100 bfloat16 has steps of a half, the size of the deviation: the unrounded sum has another LayerNorm."""
    inputs = make((9, 40), torch.bfloat16)
    inputs = inputs._replace(x=inputs.x / 4.0, bias=inputs.bias * 0.0 + 100.0)
    with watch():
        (total, normal), _ = run("add_layer_norm", inputs, NO_DROPOUT)
        apart = kernel.layer_norm(kernel.add(*inputs[:3]), inputs.weight, inputs.shift, EPS)
    assert torch.equal(normal, apart)
    assert_near([normal], expect("add_layer_norm", inputs, NO_DROPOUT, total)[0][1:], torch.bfloat16)


@pytest.mark.parametrize("draw", [NO_DROPOUT, DROPOUT])
@pytest.mark.parametrize("used", [0, 1])
def test_one_output_may_be_unused(used: int, draw: Draw) -> None:
    inputs = make((5, 12), torch.float32)
    leaves = [tensor.requires_grad_() for tensor in inputs[:5]]
    found = []
    for module in MODULES:
        with watch():
            output = module.add_layer_norm(*leaves, draw)[used]
            found.append(torch.autograd.grad(output, leaves, inputs[5 + used], allow_unused=True))
    assert all((ours is None) == (theirs is None) for ours, theirs in zip(*found, strict=True))
    for ours, theirs in zip(*found, strict=True):
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("face", ["add", "add_layer_norm"])
def test_without_dropout_x_and_residual_have_one_gradient(face: Face) -> None:
    inputs = make((5, 12), torch.float32)
    of_x, _, of_residual, _, _ = run(face, inputs, NO_DROPOUT)[1]
    assert of_x is not None
    assert of_residual is not None
    assert of_x.data_ptr() == of_residual.data_ptr()


def test_a_gradient_may_be_one_number_everywhere() -> None:
    """As that of a sum is: its strides are 0."""
    leaves = [tensor.requires_grad_() for tensor in make((5, 12), torch.float32)[:5]]
    found = []
    for module in MODULES:
        total, normal = module.add_layer_norm(*leaves, DROPOUT)
        found.append(torch.autograd.grad(total.sum() + 2.0 * normal.sum(), leaves))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("face", SHAPES)
def test_what_is_not_finite_stays_so(face: Face) -> None:
    inputs = make((6, 24), torch.float32)
    inputs.x[0, 3], inputs.x[2], inputs.residual[3, 1], inputs.x[4, 7] = torch.nan, torch.inf, -torch.inf, torch.inf
    inputs.residual[4, 7] = -torch.inf
    outputs, gradients = run(face, inputs, DROPOUT)
    expected_outputs, expected_gradients = run(face, inputs, DROPOUT, _Reference)
    torch.testing.assert_close(outputs, expected_outputs, rtol=1e-4, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("face", SHAPES)
def test_no_tokens_no_launch(face: Face) -> None:
    inputs = make((3, 0, 8), torch.bfloat16)
    with watch() as traffic:
        outputs, gradients = run(face, inputs, DROPOUT)
    assert traffic.launches == 0
    assert all(output.shape == (3, 0, 8) for output in outputs)
    for tensor, gradient in zip(inputs[:5], gradients, strict=True):
        assert gradient is None or torch.equal(gradient, torch.zeros_like(tensor))


def test_two_runs_give_the_same_bits() -> None:
    inputs = make((21, 37), torch.float16)
    first, second = (run("add_layer_norm", inputs, DROPOUT) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("face", SHAPES)
@pytest.mark.parametrize("draw", [NO_DROPOUT, DROPOUT])
@pytest.mark.parametrize(("tokens", "width", "dtype"), [(37, 20, torch.bfloat16), (3, 130, torch.float32)])
def test_traffic_is_as_the_formulas_say(face: Face, draw: Draw, tokens: int, width: int, dtype: torch.dtype) -> None:
    with watch() as traffic:
        run(face, make((tokens, width), dtype), draw)
    dropped = draw.rate > 0.0 and face != "layer_norm"
    cost = forward_cost(face, tokens, width, dtype.itemsize)
    cost += backward_cost(face, tokens, width, dtype.itemsize, dropped)
    assert (traffic.read, traffic.written) == (cost.read, cost.written)
    assert cost.least <= cost.moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(4, 8, dtype=torch.float64)}, "x is torch.float64"),
        ({"x": torch.tensor(1.0)}, "x has 0 dimensions"),
        ({"x": torch.zeros(4, 0)}, "x is 0 wide"),
        ({"x": torch.zeros(1, 8193)}, "x is 8193 wide"),
        ({"residual": torch.zeros(8)}, r"residual has shape \[8\]"),
        ({"residual": torch.zeros(4, 8, dtype=torch.float16)}, "residual is torch.float16"),
        ({"bias": torch.zeros(7)}, r"bias has shape \[7\]"),
        ({"weight": torch.zeros(8, device="meta")}, "weight is on meta"),
        ({"shift": torch.zeros(8, dtype=torch.bfloat16)}, "shift is torch.bfloat16"),
        ({"draw": Draw(0.1, seed=1, column=2)}, "draw.column is 2"),
    ],
)
def test_wrong_arguments(changes: dict[str, Any], message: str) -> None:
    arguments = {**make((4, 8), torch.float32)._asdict(), "draw": DROPOUT, **changes}
    del arguments["total_gradient"], arguments["normal_gradient"]
    with watch() as traffic, pytest.raises(ValueError, match=message):
        kernel.add_layer_norm(**arguments)
    assert traffic.launches == 0
