"""The step of LAMB in Triton against its definition in float64; against the paper and on ranks: tests/train."""

import dataclasses

import pytest
import torch
from flats import CPU, GROUP, KINDS, check_step, copy_flat, make_flat, of_kind
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import Traffic, watch
from torch import Tensor

from hzlm.kernels import lamb as plain
from hzlm.kernels.gpu import lamb as kernel
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.kernels.lamb import Flat, Fragment, Layout, SumOver
from hzlm.tools.bench.kernels.lamb import lamb_cost

BLOCK = choose_blocks("lamb", 1)["BLOCK"]
# Adam's step, a ratio and the sum of both round about five times, at random: float32 keeps 24 bits, 6e-8
TOLERANCE = 1.5e-7


def step(flats: list[Flat], count: int, sum_over: SumOver | None = None) -> Traffic:
    """Takes it under watch."""
    gradients = [flat.gradient.clone() for flat in flats]
    with watch() as traffic:
        kernel.lamb(flats, count, CPU, sum_over)
    for flat, gradient in zip(flats, gradients, strict=True):
        torch.testing.assert_close(flat.gradient, gradient, rtol=0, atol=0, equal_nan=True)
    return traffic


def check(before: Flat) -> None:
    """One step against the definition."""
    count = len(before.layout.fragments)
    ours, expected = copy_flat(before), copy_flat(before, torch.float64)
    step([ours], count)
    plain.lamb_reference([expected], count, CPU)
    check_step(ours, expected, before, TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("sizes", "gap"),
    [
        ([BLOCK + 1, 13, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 1], 1),
        ([2 * BLOCK + 2, 2, BLOCK], 2),
        ([4, 2 * BLOCK + 4, BLOCK], 4),
    ],
)
def test_equals_the_definition(sizes: list[int], gap: int, kind: tuple[float, bool]) -> None:
    check(make_flat(sizes, gap, of_kind(kind)))


@settings(max_examples=8)
@given(st.lists(st.integers(1, 40), max_size=3), st.integers(0, 5), st.sampled_from(KINDS))
def test_equals_the_definition_for_any_sizes(sizes: list[int], gap: int, kind: tuple[float, bool]) -> None:
    check(make_flat(sizes, gap, of_kind(kind)))


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
def test_an_eps_of_zero() -> None:
    """Then the update of a tensor that never had a gradient is 0 / 0; it stays, and nothing spreads from outside."""
    check(make_flat([5, 3, 7], 1, dataclasses.replace(GROUP, eps=0.0)))


def test_a_tensor_of_zeros_moves_without_a_ratio() -> None:
    before = make_flat([5], 1, dataclasses.replace(GROUP, weight_decay=0.0))
    before.layout.fragments[0].of(before.x).zero_()
    check(before)


def test_a_gradient_that_is_no_number_does_what_it_does_in_torch() -> None:
    before = make_flat([5, 3, 7], 1, GROUP)
    for fragment in before.layout.fragments[:2]:
        before.gradient[fragment.start + 1] = float("nan")
    ours, expected = copy_flat(before), copy_flat(before)
    step([ours], 3)
    plain.lamb([expected], 3, CPU)
    torch.testing.assert_close(ours.x, expected.x, rtol=1e-6, atol=0, equal_nan=True)


def scatter(flat: Flat) -> Flat:
    """Of logical tensor 0 two fragments, one not counted; of 1 a fragment that is not counted; of 3 an empty one."""
    first, second, third, fourth = flat.layout.fragments
    fragments = [
        first,
        dataclasses.replace(second, number=1, counted=False),
        dataclasses.replace(third, number=0),
        dataclasses.replace(fourth, number=0, counted=False),
        Fragment(0, 0, 3),
    ]
    return dataclasses.replace(flat, layout=Layout(fragments))


def test_several_ranks_and_groups() -> None:
    """Sums of each logical tensor over fragments, flat tensors and, by `sum_over`, what other ranks have."""
    sizes = [BLOCK + 3, 6, 7, 8]
    flats = [scatter(make_flat(sizes, 1, GROUP)), make_flat([9, 4, 5], 1, GROUP), make_flat([8], 1, of_kind(KINDS[3]))]
    flats[2] = dataclasses.replace(flats[2], layout=Layout([Fragment(1, 8, 4)]))
    others = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sums: list[Tensor] = []

    def sum_over(own: Tensor) -> Tensor:
        sums.append(own.clone())
        return own + others

    found, wanted = ([copy_flat(flat, dtype) for flat in flats] for dtype in (torch.float32, torch.float64))
    step(found, 5, sum_over)
    plain.lamb(wanted, 5, CPU, sum_over)
    ours, expected = sums
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours[:, :2], expected[:, :2], rtol=1e-6, atol=0)
    assert torch.equal(ours[:, 2] != 0.0, expected[:, 2] != 0.0)
    for a, b, flat in zip(found, wanted, flats, strict=True):
        for name in ("x", "m", "v"):
            assert (getattr(a, name) - getattr(b, name)).norm() <= TOLERANCE * getattr(b, name).norm()
        assert not torch.equal(a.x, flat.x)


def test_a_rank_without_any_tensor_still_sums() -> None:
    asked: list[Tensor] = []

    def sum_over(sums: Tensor) -> Tensor:
        asked.append(sums)
        return sums

    empty = Flat(*torch.zeros(4, 2), layout=Layout([]), settings=GROUP)
    for flats in ([], [empty]):
        assert step(flats, 2, sum_over).launches == 0
    assert [sums.tolist() for sums in asked] == [[[0.0] * 3] * 2] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_moves_the_bytes_of_the_formula(kind: tuple[float, bool]) -> None:
    flat = scatter(make_flat([BLOCK + 1, 7, 3, 2 * BLOCK], 1, of_kind(kind)))
    flat.gradient.fill_(1.0)
    traffic = step([flat], 4, lambda sums: sums + 1.0)  # as if another rank counted what is not counted here
    cost = lamb_cost(flat.layout.fragments, flat.settings, BLOCK)
    assert (traffic.read, traffic.written) == (cost.read, cost.written)
    assert traffic.launches == (3 if flat.settings.needs_sums else 1)


def test_two_runs_give_the_same_bits() -> None:
    before = make_flat([3 * BLOCK + 5, 9, 40], 1, GROUP)
    runs = [copy_flat(before) for _ in range(2)]
    for flat in runs:
        step([flat], 3)
    assert torch.equal(runs[0].x, runs[1].x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(9, dtype=torch.float64)}, r"flats\[0\].x is torch.float64; it must be torch.float32"),
        ({"gradient": torch.zeros(9, dtype=torch.bfloat16)}, r"flats\[0\].gradient is torch.bfloat16"),
        ({"m": torch.zeros(8)}, r"flats\[0\].m has shape \[8\]; it must be \[9\]"),
        ({"v": torch.zeros(18)[::2]}, r"flats\[0\].v is not contiguous"),
        ({"v": torch.zeros(9, device="meta")}, r"flats\[0\].v is on meta; it must be on cpu"),
        ({"layout": Layout([Fragment(5, 5, 0)])}, r"flats\[0\].layout ends at 10; it must end within the 9 elements"),
        ({"layout": Layout([Fragment(0, 9, 1)])}, r"count is 1; flats\[0\].layout has a logical tensor of number 1"),
        ({name: torch.zeros(9, device="meta") for name in ("x", "gradient", "m", "v")}, r"flats\[0\].x is on meta"),
    ],
)
def test_bad_arguments(change: dict[str, Tensor], message: str) -> None:
    flat = make_flat([7], 1, GROUP)
    with pytest.raises(ValueError, match=message):
        kernel.lamb([dataclasses.replace(flat, **change)], 1, CPU)
