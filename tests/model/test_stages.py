"""The cut into stages against all cuts there are."""

from itertools import chain, combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.config import ModelConfig
from hzlm.model.encoder_decoder import plan_layers
from hzlm.model.setup import Setup
from hzlm.model.stages import cut_stages


def model(encoder: int, decoder: int, width: int = 64, inner: int = 256) -> ModelConfig:
    return ModelConfig(
        hidden_size=width, heads=1, feed_forward_size=inner, encoder_layers=encoder, decoder_layers=decoder,
        max_length=32,
    )  # fmt: skip


def names_of(config: ModelConfig) -> list[str]:
    """What runs, in order: the layers and the projection."""
    return [layer.name for layer in plan_layers(config, 100, 10, Setup())] + ["projection"]


def cost_of(name: str, config: ModelConfig, targets: int, length: int, sides: int) -> int:
    """Products of matrices of a step, each written out: forward 2abc, backward twice that."""
    width, inner = config.hidden_size, config.feed_forward_size
    linear = 2 * length * width * width
    attention = 4 * linear + 2 * (2 * length * length * width)
    feed_forward = 2 * (2 * length * width * inner)
    of_kind = {"encoder": attention + feed_forward, "decoder": 2 * attention + feed_forward}
    return 3 * (of_kind[name.split(".")[0]] if "." in name else sides * 2 * length * width * targets)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_cut_is_the_best_of_all(data: st.DataObject) -> None:
    config = data.draw(st.builds(model, *[st.integers(1, 5)] * 2, st.integers(1, 90), st.integers(1, 300)))
    work = data.draw(st.tuples(st.integers(1, 9000), st.integers(1, 200), st.integers(1, 2)))
    names = names_of(config)
    heavy = [number for number, name in enumerate(names) if "." in name]
    stages = data.draw(st.integers(1, len(heavy)))
    of_layer = [cost_of(name, config, *work) if "." in name or name == "projection" else 0 for name in names]

    def rank(bounds: list[int]) -> tuple[list[int], list[int]]:
        return sorted((sum(of_layer[start:end]) for start, end in pairwise(bounds)), reverse=True), bounds

    every = [[0, *cuts, len(names)] for cuts in combinations(heavy[1:], stages - 1)]
    assert cut_stages(config, *work, stages) == min(every, key=rank)


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_by_hand_each_stage_has_the_blocks_named(encoder: int, decoder: int, data: st.DataObject) -> None:
    config = model(encoder, decoder)
    ends = data.draw(st.sets(st.integers(1, encoder + decoder - 1)))
    by_hand = [end - start for start, end in pairwise([0, *sorted(ends), encoder + decoder])]
    bounds = cut_stages(config, 100, 32, 1, len(by_hand), by_hand)
    parts = [names_of(config)[start:end] for start, end in pairwise(bounds)]
    assert list(chain.from_iterable(parts)) == names_of(config)
    assert [sum("." in name for name in part) for part in parts] == by_hand
    assert all("." in part[0] for part in parts[1:])


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_what_is_no_block_stays_beside_its_block(stages: int) -> None:
    config = model(3, 2)
    parts = [names_of(config)[start:end] for start, end in pairwise(cut_stages(config, 100, 32, 1, stages))]
    assert len(parts) == stages
    by_name = {name: number for number, part in enumerate(parts) for name in part}
    assert by_name["tokens"] == by_name["positions"] == by_name["encoder.0"] == 0
    assert by_name["encoder_norm"] == by_name["encoder.2"]
    assert by_name["decoder_norm"] == by_name["projection"] == by_name["decoder.1"] == stages - 1


def test_a_dear_projection_leaves_its_stage_few_blocks() -> None:
    config = model(12, 2)
    cheap, dear = (cut_stages(config, targets, 32, 2, 2)[1] for targets in (1, 5000))
    # a decoder block makes about 4/3 of an encoder block's products: 7 against 5 + 8/3
    assert names_of(config)[cheap] == "encoder.7"
    assert names_of(config)[dear] == "decoder.1"
