"""The torch step of LAMB against its definition, in float64; against the paper and on ranks: tests/train."""

import dataclasses
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
from flats import CPU, GROUP, KINDS, check_step, copy_flat, make_flat, of_kind
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hzlm.kernels import lamb as kernel
from hzlm.kernels.lamb import Layout


@settings(max_examples=30)
@given(st.lists(st.integers(1, 30), max_size=4), st.integers(0, 2), st.sampled_from(KINDS))
def test_equals_the_definition(sizes: list[int], gap: int, kind: tuple[float, bool]) -> None:
    before = make_flat(sizes, gap, of_kind(kind), torch.float64)
    ours, expected = copy_flat(before, torch.float64), copy_flat(before, torch.float64)
    with patch.object(kernel, "PIECE", 7):
        kernel.lamb([ours], len(sizes), CPU)
    kernel.lamb_reference([expected], len(sizes), CPU)
    check_step(ours, expected, before, 1e-14)


@pytest.mark.parametrize("step", [kernel.lamb, kernel.lamb_reference])
def test_sums_come_from_other_ranks_too(step: Callable[..., None]) -> None:
    """A rank that counts nothing moves by the sums that it is given, and one without any tensor asks for them, too."""
    flat = make_flat([8], 1, GROUP)
    [fragment] = flat.layout.fragments
    uncounted = dataclasses.replace(flat, layout=Layout([dataclasses.replace(fragment, counted=False)]))
    asked: list[Tensor] = []

    def sum_over(sums: Tensor) -> Tensor:
        asked.append(sums.clone())
        return torch.tensor([[4.0, 1.0, 1.0]], dtype=torch.float64)

    before = copy_flat(flat)
    step([uncounted], 1, CPU, sum_over)
    step([], 1, CPU, sum_over)
    assert [sums.tolist() for sums in asked] == [[[0.0, 0.0, 0.0]]] * 2
    assert {sums.dtype for sums in asked} == {torch.float64}
    assert not torch.equal(fragment.of(flat.x), fragment.of(before.x))
