"""Embeddings in Triton against their definition in float64."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter import Traffic, spread, watch
from torch import Tensor

from hzlm.kernels import embedding as plain
from hzlm.kernels.dropout import NO_DROPOUT, Draw
from hzlm.kernels.gpu import embedding as kernel
from hzlm.kernels.gpu import sum_by_id
from hzlm.kernels.gpu.blocks import choose_blocks
from hzlm.tools.bench.kernels.embedding import dropout_cost, forward_cost, sum_cost

# All is computed in float32 and rounded once to a dtype of 24, 11 or 8 bits, by 2^-24, 2^-11, 2^-8 of the number at
# most; twice that is allowed, and in float32 what a sum of a few hundred numbers has.
TOLERANCES = {torch.float32: 3e-6, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
DRAW = Draw(0.3, 2**40 + 7, row=5, column=8)
CHUNK = choose_blocks("embedding_backward", 1)["CHUNK"]
ROWS, LENGTH = 9, 4
"""Of the token table and of the place tables."""


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes many programs and many chunks of small tensors."""
    own = {"embedding": {"ROWS": 4, "COLUMNS": 8}, "embedding_backward": {"ROWS": 2, "COLUMNS": 8, "CHUNK": 3}}
    for module in (kernel, sum_by_id):
        monkeypatch.setattr(module, "choose_blocks", lambda operation, size: dict(own[operation]))


Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def make(rows: int, length: int, width: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Inputs:
    """Tokens, of which one has half of the positions, table, places, place tables, and the gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, ROWS, (2, rows, length), generator=generator)
    tokens[torch.rand(tokens.shape, generator=generator) < 0.5] = 3
    places = torch.randint(0, LENGTH, (rows, length), generator=generator)
    shapes = ((ROWS, width), (LENGTH, width), (LENGTH, width), (2, rows, length, width))
    table, source, target, gradient = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return tokens, table, places, source, target, gradient


def run(module: Any, suffix: str, inputs: Inputs, draw: Draw, gather: bool, vectors: Tensor) -> list[Tensor]:
    """The result, and the gradients of what is looked up or of the vectors, and of the place tables."""
    tokens, table, places, source, target, gradient = inputs
    first = (table if gather else vectors).detach().requires_grad_()
    tables = [one.detach().requires_grad_() for one in (source, target)]
    if gather:
        result = getattr(module, "embed" + suffix)(tokens, first, places, tables, draw)
    else:
        result = getattr(module, "add_places" + suffix)(first, places, tables, draw)
    return [result.detach(), *torch.autograd.grad(result, (first, *tables), gradient)]


def run_kernel(inputs: Inputs, draw: Draw, gather: bool, vectors: Tensor) -> tuple[list[Tensor], Traffic]:
    with watch() as traffic:
        return run(kernel, "", inputs, draw, gather, vectors), traffic


def check(inputs: Inputs, draw: Draw, gather: bool, vectors: Tensor | None = None) -> None:
    """Kernels against the definition."""
    tokens, table, *_ = inputs
    if vectors is None:
        vectors = table[tokens]
    wide = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    expected = run(plain, "_reference", wide, draw, gather, vectors.double())
    for ours, theirs in zip(run_kernel(inputs, draw, gather, vectors)[0], expected, strict=True):
        assert ours.dtype == table.dtype
        tolerance = TOLERANCES[table.dtype]
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("draw", [NO_DROPOUT, DRAW])
@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_equals_the_definition(dtype: torch.dtype, gather: bool, draw: Draw) -> None:
    for shape in ((1, 1, 1), (3, 5, 9)):
        check(make(*shape, dtype), draw, gather)


@pytest.mark.parametrize("gather", [True, False])
def test_the_blocks_of_the_table(gather: bool) -> None:
    check(make(2, CHUNK + 1, 130, torch.bfloat16), DRAW, gather)


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=6)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 12), st.sampled_from([NO_DROPOUT, DRAW]), st.booleans())
def test_equals_the_definition_for_any_shape(rows: int, length: int, width: int, draw: Draw, gather: bool) -> None:
    check(make(rows, length, width), draw, gather)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("counts", [(3,), (4,), (6, 0, 7), (0, 1, 0, 2), (20,), (1, 4, 4, 4, 4, 4)])
def test_runs_of_any_length(counts: Sequence[int]) -> None:
    """A chunk holds 3 rows: runs of just one, of one more, of whole ones only."""
    ids = torch.tensor([id_ for id_, count in enumerate(counts) for _ in range(count)])
    ids = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))]
    _, table, _, source, target, _ = make(1, 1, 5)
    tokens, gradient = torch.stack([ids, ids])[:, None], torch.randn(2, 1, len(ids), 5)
    check((tokens, table, (ids % LENGTH)[None], source, target, gradient), DRAW, gather=True)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("draw", [NO_DROPOUT, DRAW])
def test_strides(draw: Draw) -> None:
    tokens, table, places, source, target, gradient = make(2, 3, 12)
    vectors = table[tokens]
    strange = (spread(tokens), spread(table), spread(places), spread(source), target.T.contiguous().T, spread(gradient))
    check(strange, draw, gather=True)
    check(strange, draw, gather=False, vectors=spread(vectors))
    # as they come where ranks share the table
    swapped = vectors.transpose(0, 1).contiguous().transpose(0, 1)
    check((tokens, table, places, source, target, torch.ones(()).expand(vectors.shape)), draw, False, swapped)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("token", "place"), [(ROWS, 0), (-1, 0), (2**32, 1), (0, LENGTH), (0, -1)])
def test_an_index_outside_gives_nan_and_no_gradient(token: int, place: int) -> None:
    inputs = make(2, 3, 5)
    tokens, table, places, source, _, gradient = inputs
    inside = run(plain, "_reference", inputs, NO_DROPOUT, True, table[tokens])[0]
    tokens[1, 0, 1], places[1, 2] = token, place
    bad = torch.zeros(tokens.shape, dtype=torch.bool)
    bad[1, 0, 1], bad[:, 1, 2] = not 0 <= token < ROWS, not 0 <= place < LENGTH
    (result, of_table, *of_places), _ = run_kernel(inputs, NO_DROPOUT, True, table)
    assert torch.equal(result.isnan().any(-1), bad)
    assert torch.equal(result.isnan().all(-1), bad)
    good = ~bad
    good[1, 0, 1], good[:, 1, 2] = False, False
    torch.testing.assert_close(result[good], inside[good])
    # a token outside has a place all the same, and the other way round
    known, known_place = tokens.clamp(0, ROWS - 1), places.clamp(0, LENGTH - 1)
    kept = (gradient * (tokens == known)[..., None]).flatten(0, -2)
    torch.testing.assert_close(of_table, torch.zeros_like(table).index_add(0, known.flatten(), kept))
    for ours, one in zip(of_places, gradient, strict=True):
        kept = (one * (places == known_place)[..., None]).flatten(0, -2)
        torch.testing.assert_close(ours, torch.zeros_like(source).index_add(0, known_place.flatten(), kept))


@pytest.mark.usefixtures("small_blocks")
def test_two_runs_give_the_same_bits() -> None:
    inputs = make(2, 10, 8, torch.bfloat16)
    first, second = (run_kernel(inputs, DRAW, True, inputs[1])[0] for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("gather", [True, False])
def test_a_part_of_the_rows_draws_the_mask_of_all(gather: bool) -> None:
    tokens, table, places, source, target, gradient = make(3, 4, 8)
    vectors = table[tokens]
    (whole, below, *_), _ = run_kernel((tokens, table, places, source, target, gradient), DRAW, gather, vectors)
    part = slice(1, 3)
    own = (tokens[:, part], table, places[part], source, target, gradient[:, part])
    (result, own_below, *_), _ = run_kernel(own, replace(DRAW, row=DRAW.row + 4), gather, vectors[:, part])
    assert torch.equal(result, whole[:, part])
    assert gather or torch.equal(own_below, below[:, part])


@pytest.mark.parametrize(
    ("gather", "draw", "width"), [(True, NO_DROPOUT, 260), (False, NO_DROPOUT, 130), (False, DRAW, 130)]
)
def test_moves_what_the_formulas_say(gather: bool, draw: Draw, width: int) -> None:
    rows, length = 3, 100
    inputs = make(rows, length, width, torch.bfloat16)
    tokens, table, places, *_ = inputs
    _, traffic = run_kernel(inputs, draw, gather, table[tokens])
    positions = rows * length
    cost = forward_cost(positions, width, 2, ROWS, LENGTH, gather)
    of_places = torch.bincount(places.flatten(), minlength=LENGTH).tolist()
    cost += sum_cost(of_places * 2, 2 * positions, width, 2)
    of_tokens = torch.bincount(tokens.flatten(), minlength=ROWS).tolist()
    assert max(of_tokens) > 2 * CHUNK > max(of_places) > CHUNK
    if gather:
        cost += sum_cost(of_tokens, 2 * positions, width, 2)
    elif draw.rate > 0.0:
        cost += dropout_cost(positions, width, 2)
    assert (traffic.read, traffic.written) == (cost.read, cost.written)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"table": torch.zeros(9, 8, dtype=torch.float64)}, "table is torch.float64"),
        ({"table": torch.zeros(8)}, "table has 1 dimensions"),
        ({"tokens": torch.zeros(3, 4, dtype=torch.int64)}, "tokens has 2 dimensions"),
        ({"tokens": torch.zeros(3, 4, 5, dtype=torch.int64)}, r"tokens has shape \[3, 4, 5\]; it must be \[2, 4, 5\]"),
        ({"tokens": torch.zeros(2, 4, 5)}, "tokens is torch.float32"),
        ({"places": torch.zeros(4, 6, dtype=torch.int64)}, "places has shape"),
        ({"places": torch.zeros(4, 5, dtype=torch.int32)}, "places is torch.int32"),
        ({"place_tables": [torch.zeros(3, 8)]}, "place_tables has 1 tables; it must have 2"),
        ({"place_tables": [torch.zeros(3, 8), torch.zeros(4, 8)]}, r"place_tables\[1\] has shape"),
        ({"place_tables": [torch.zeros(3, 8).half()] * 2}, r"place_tables\[0\] is torch.float16"),
        ({"draw": Draw(0.1, 1, column=2)}, "draw.column is 2"),
        ({"vectors": torch.zeros(2, 4, 5)}, "vectors has 3 dimensions"),
        ({"vectors": torch.zeros(1, 4, 5, 8)}, r"vectors has shape \[1, 4, 5, 8\]; it must be \[2, 4, 5, 8\]"),
    ],
)
def test_wrong_arguments(changed: dict[str, Any], message: str) -> None:
    right = {"places": torch.zeros(4, 5, dtype=torch.int64), "place_tables": [torch.zeros(3, 8)] * 2}
    first = {"tokens": torch.zeros(2, 4, 5, dtype=torch.int64), "table": torch.zeros(9, 8)}
    function = kernel.add_places if "vectors" in changed else kernel.embed
    arguments = {**({} if "vectors" in changed else first), **right, **changed}
    with watch() as traffic, pytest.raises(ValueError, match=message):
        function(**arguments)
    assert traffic.launches == 0
