"""Random numbers that depend on what they are for."""

import hashlib
from collections.abc import Iterator
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hzlm.parallel.mesh import ALONE, Axis, Mesh
from hzlm.parallel.random import derive_seed, make_generator, own_randomness, seed_dropout


@pytest.fixture(autouse=True)
def _apart() -> Iterator[None]:
    """The numbers that other tests draw stay as they were."""
    with torch.random.fork_rng([]):
        yield


def mesh_at(pipe: int, data: int, tensor: int, split_rows: bool) -> Mesh:
    """A place in a layout of 2 x 2 x 2; no rank is told anything here."""
    return Mesh(Axis(2, pipe), Axis(2, data), Axis(2, tensor), split_rows=split_rows)


def mask() -> Tensor:
    """What dropout leaves of 400 ones."""
    return functional.dropout(torch.ones(400), 0.5)


def masks(mesh: Mesh, seed: int = 3, purpose: str = "dropout", step: int = 8) -> bytes:
    """The masks of two layers, to be compared."""
    seed_dropout(seed, purpose, step, mesh)
    return torch.stack([mask(), mask()]).numpy().tobytes()


def test_ranks_with_the_same_rows_draw_the_same_masks_and_all_others_not() -> None:
    places = list(product(range(2), repeat=3))
    whole = {place: masks(mesh_at(*place, split_rows=False)) for place in places}
    for pipe, data in product(range(2), repeat=2):
        assert whole[pipe, data, 0] == whole[pipe, data, 1]
    assert len(set(whole.values())) == 4
    split = {place: masks(mesh_at(*place, split_rows=True)) for place in places}
    assert len(set(split.values())) == 8


def test_masks_follow_from_seed_purpose_and_step() -> None:
    mesh = mesh_at(1, 0, 1, split_rows=False)
    first = masks(mesh)
    torch.rand(17)
    assert masks(mesh) == first
    others = [masks(mesh, seed=4), masks(mesh, purpose="noise"), masks(mesh, step=9)]
    assert len({first, *others}) == 4


def test_tensor_ranks_draw_of_their_own_inside_and_alike_afterwards() -> None:
    inside, afterwards = [], []
    for tensor in range(2):
        mesh = mesh_at(0, 1, tensor, split_rows=False)
        seed_dropout(3, "dropout", 8, mesh)
        with own_randomness(mesh):
            inside.append(mask().numpy().tobytes())
            torch.rand(100 * tensor)  # however much is drawn inside
        with own_randomness(mesh):
            inside.append(mask().numpy().tobytes())
        afterwards.append(mask().numpy().tobytes())
    assert afterwards[0] == afterwards[1]
    assert len({*inside, *afterwards}) == 5


def test_own_randomness_is_the_same_again() -> None:
    mesh = mesh_at(0, 1, 1, split_rows=False)
    found = []
    for _ in range(2):
        seed_dropout(3, "dropout", 8, mesh)
        with own_randomness(mesh):
            found.append(mask())
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("mesh", "wanted"),
    [
        pytest.param(ALONE, True, id="alone"),
        pytest.param(mesh_at(0, 0, 1, split_rows=True), True, id="split rows"),
        pytest.param(mesh_at(0, 0, 1, split_rows=False), False, id="unwanted"),
    ],
)
def test_randomness_goes_on_where_no_heads_are_divided_or_nothing_is_drawn(mesh: Mesh, wanted: bool) -> None:
    torch.manual_seed(1)
    expected = [mask(), mask()]
    torch.manual_seed(1)
    with own_randomness(mesh, wanted):
        first = mask()
    assert torch.equal(first, expected[0])
    assert torch.equal(mask(), expected[1])


def test_a_seed_is_the_hash_of_its_key() -> None:
    """On every machine: 63 bits of SHA-256. The parts of a key are kept apart."""
    digest = hashlib.sha256(b"7\x1fparameter\x1ftokens.weight").digest()
    assert derive_seed(7, "parameter", "tokens.weight") == int.from_bytes(digest[:8], "little") // 2
    assert derive_seed(1, "23") != derive_seed(12, "3")
    drawn = [torch.rand(4, generator=make_generator(1, purpose)).tolist() for purpose in ("a", "b", "a")]
    assert drawn[0] == drawn[2] != drawn[1]
