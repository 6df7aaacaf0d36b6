"""Learning rates by layer and frozen layers, against torch's AdamW, alone and on the ranks of layouts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from engines import Layout, make_config
from fine_tuning import DECAY, FACTORS, compare_with_torch, wanted_factor
from torch import nn

from hzlm.config import ModelConfig, RunConfig
from hzlm.errors import UserError
from hzlm.kernels.lamb import Fragment
from hzlm.launch.processes import run_ranks
from hzlm.train.engine import Engine
from hzlm.train.lamb import Lamb
from hzlm.train.ranks import connect
from hzlm.train.rate_factors import factor_of
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), sentences)


def fine_tuning(data: Path, model: ModelConfig, layout: Layout, **optimizer: object) -> RunConfig:
    optimizer = {"name": "adamw", "rate_factors": FACTORS, "gradient_clipping": 0.1, **optimizer}
    return make_config(data, model, layout, optimizer=optimizer, train={"average_decay": DECAY})


def test_alone_the_steps_are_those_of_torch(data: Path, model_config: ModelConfig, vocabulary: Vocabulary) -> None:
    assert compare_with_torch(fine_tuning(data, model_config, (1, 1, 1)), vocabulary) == []


@pytest.mark.parametrize(
    "layout",
    [
        (2, 1, 1),
        (1, 2, 1),
        *(pytest.param(layout, marks=pytest.mark.slow) for layout in ((2, 2, 1), (1, 1, 2), (2, 1, 2))),
    ],
)
def test_on_ranks_the_steps_are_those_of_torch(
    data: Path, model_config: ModelConfig, vocabulary: Vocabulary, layout: Layout
) -> None:
    config = fine_tuning(data, model_config, layout)
    world = layout[0] * layout[1] * layout[2]
    assert run_ranks(compare_with_torch, world, config, vocabulary) == [[]] * world


def test_the_longest_name_that_fits_decides() -> None:
    for name in (
        "encoder.0.attention.query.weight",
        "encoder.1.norm.bias",
        "encoder_norm.norm.weight",
        "tokens.weight",
    ):
        assert factor_of(name, FACTORS) == wanted_factor(name)
    assert factor_of("encoder.10.x", {"encoder.1": 0.5}) == 1.0, "whole parts"
    assert factor_of("encoder_norm.norm.weight", {"encoder": 0.5}) == 1.0


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("encoders", "did you mean encoder?"), ("encoder.2", "did you mean encoder.1?"), ("head", "known: tokens, ")],
)
def test_a_name_that_fits_no_layer_is_refused(
    data: Path, model_config: ModelConfig, vocabulary: Vocabulary, name: str, remedy: str
) -> None:
    config = fine_tuning(data, model_config, (1, 1, 1), rate_factors={name: 0.5})
    with pytest.raises(UserError) as caught:
        Engine(config, vocabulary, connect(config.parallel))
    assert str(caught.value).startswith(f"optimizer.rate_factors: '{name}': unknown layer; {remedy}")


def test_a_factor_is_another_rate_for_one_tensor_and_zero_none() -> None:
    """Three tensors in one flat parameter with a gap, against three optimizers that have one each."""
    sizes, factors = (5, 7, 4), (0.5, 0.0, 1.0)
    generator = torch.Generator().manual_seed(2)
    flat = nn.Parameter(torch.randn(sum(sizes) + 1, generator=generator))
    starts = (0, 5, 13)
    lamb = Lamb([{"params": [flat]}], lr=0.01)
    lamb.set_fragments(
        flat, [Fragment(start, size, n) for n, (start, size) in enumerate(zip(starts, sizes, strict=True))]
    )
    lamb.set_rate_factors({0: 0.5, 1: 0.0})
    parts = [nn.Parameter(flat.detach()[start:][:size].clone()) for start, size in zip(starts, sizes, strict=True)]
    others = [Lamb([{"params": [part]}], lr=0.01 * factor) for part, factor in zip(parts, factors, strict=True)]
    frozen = parts[1].detach().clone()
    for _ in range(3):
        flat.grad = torch.randn(len(flat), generator=generator)
        for part, start, other in zip(parts, starts, others, strict=True):
            part.grad = flat.grad[start:][: len(part)].clone()
            other.step()
        lamb.step()
    for number, (part, start) in enumerate(zip(parts, starts, strict=True)):
        assert flat.detach()[start:][: len(part)].equal(frozen if number == 1 else part.detach())
    assert not lamb.state[flat]["exp_avg"][5:12].any(), "its moments stay too"
