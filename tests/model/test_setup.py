"""What layers draw dropout from: the parts of the ranks, put together, are the mask of one process."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from hzlm.kernels.dropout import NO_DROPOUT, kept_features, kept_weights
from hzlm.model.setup import Setup
from hzlm.parallel.mesh import ALONE, Axis, Mesh
from hzlm.parallel.random import Passage

ROWS, LENGTH, WIDTH, HEADS = 4, 5, 8, 4
PASSAGE = Passage((1, "dropout", 2, "encoder.0", 1))


class Layout(NamedTuple):
    """Ranks along two axes."""

    data: int
    tensor: int
    split_rows: bool = False

    def meshes(self) -> list[Mesh]:
        """Of all ranks, data-parallel ones slowest."""
        return [
            replace(ALONE, data=Axis(self.data, d), tensor=Axis(self.tensor, t), split_rows=self.split_rows)
            for d in range(self.data)
            for t in range(self.tensor)
        ]


LAYOUTS = [Layout(2, 1), Layout(1, 2), Layout(2, 2), Layout(1, 2, split_rows=True), Layout(2, 2, split_rows=True)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ranks_draw_the_rows_that_they_have(layout: Layout) -> None:
    """Outside attention and feed-forward: data-parallel ranks have other rows, and with split rows all have."""
    share = layout.data * (layout.tensor if layout.split_rows else 1)
    x = torch.empty(ROWS // share, LENGTH, WIDTH)
    parts = [
        kept_features(Setup(mesh).draw_outside(PASSAGE, "site", 0.5, x), x.shape[0] * LENGTH, WIDTH)
        for mesh in layout.meshes()
        if layout.split_rows or mesh.tensor.index == 0
    ]
    whole = Setup().draw_outside(PASSAGE, "site", 0.5, torch.empty(ROWS, LENGTH, WIDTH))
    assert torch.equal(torch.cat(parts), kept_features(whole, ROWS * LENGTH, WIDTH))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ranks_draw_the_features_and_heads_that_they_have(layout: Layout) -> None:
    rows, width, heads = ROWS // layout.data, WIDTH // layout.tensor, HEADS // layout.tensor
    x, query = torch.empty(rows, LENGTH, width), torch.empty(rows, LENGTH, heads, 3)
    features, weights = [], []
    for mesh in layout.meshes():
        setup = Setup(mesh)
        features.append(kept_features(setup.draw_features(PASSAGE, "a", 0.5, x), rows * LENGTH, width))
        weights.append(kept_weights(setup.draw_weights(PASSAGE, "b", 0.5, query), rows, heads, LENGTH))
    alone = Setup()
    whole = alone.draw_features(PASSAGE, "a", 0.5, torch.empty(ROWS, LENGTH, WIDTH))
    assert torch.equal(join(features, layout, 1), kept_features(whole, ROWS * LENGTH, WIDTH))
    whole = alone.draw_weights(PASSAGE, "b", 0.5, torch.empty(ROWS, LENGTH, HEADS, 3))
    assert torch.equal(join(weights, layout, 1), kept_weights(whole, ROWS, HEADS, LENGTH))


def join(parts: list[Tensor], layout: Layout, split: int) -> Tensor:
    """The tensors of all ranks as one: those of tensor-parallel ranks side by side in dimension `split`."""
    groups = [parts[start : start + layout.tensor] for start in range(0, len(parts), layout.tensor)]
    return torch.cat([torch.cat(group, split) for group in groups])


def test_every_pass_layer_and_site_draws_of_its_own() -> None:
    setup = Setup()
    x = torch.empty(2, 3, 4)
    seeds = []
    for step in (1, 2):
        setup.draws.begin(7, "dropout", step)
        for layer in ("encoder.0", "encoder.1", "encoder.0"):
            passage = setup.begin_pass(layer, training=True)
            seeds += [setup.draw_outside(passage, site, 0.1, x).seed for site in ("one", "two")]
    assert len(set(seeds)) == len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)
    setup.draws.begin(7, "dropout", 1)
    again = setup.begin_pass("encoder.0", training=True)
    assert setup.draw_outside(again, "one", 0.1, x).seed == seeds[0]


def test_nothing_is_dropped_without_training_or_rate() -> None:
    setup = Setup()
    x = torch.empty(2, 3, 4)
    assert setup.begin_pass("layer", training=False) is None
    for passage, rate in ((None, 0.5), (PASSAGE, 0.0)):
        assert setup.draw_outside(passage, "site", rate, x) is NO_DROPOUT
        assert setup.draw_features(passage, "site", rate, x) is NO_DROPOUT
        assert setup.draw_weights(passage, "site", rate, x[..., None]) is NO_DROPOUT
