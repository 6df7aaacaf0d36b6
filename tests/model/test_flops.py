"""The formula against PyTorch's own count of the matrix products that the model makes, without padding or packing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from hzlm.config import LossConfig, ModelConfig
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.flops import Flops, Work, count_flops
from hzlm.model.losses import TrainingLoss

TARGET_START = 7
TARGETS = 90


def build(encoder_layers: int, decoder_layers: int, heads: int = 2, inner: int = 24) -> EncoderDecoder:
    config = ModelConfig(
        hidden_size=8 * heads, heads=heads, feed_forward_size=inner, max_length=24, dropout=0.0,
        encoder_layers=encoder_layers, decoder_layers=decoder_layers,
    )  # fmt: skip
    return EncoderDecoder(config, TARGET_START + TARGETS, TARGET_START).initialize(1)


def counted_flops(
    model: EncoderDecoder, length: int, scored: tuple[int, int], backward: bool = False
) -> tuple[Flops, int]:
    """What PyTorch counts for one sentence: by part of the forward pass, and in total.

    scored: how many places of the sentence the encoder's and the decoder's loss count.
    """
    tokens = torch.full((2, 1, length), TARGET_START)
    positions, segments = torch.arange(length)[None], torch.ones(1, length, dtype=torch.int32)
    weights = torch.stack([(torch.arange(length) < count).float()[None] for count in scored])
    config = LossConfig(encoder_weight=float(scored[0] > 0), decoder_weight=float(scored[1] > 0))
    loss = TrainingLoss(config, len(model.tokens.weight), TARGET_START)
    # only gradients that nobody asks for leave the fused loss with its forward products alone
    model.requires_grad_(backward)
    counter = FlopCounterMode(display=False)
    with counter:
        value = loss(model((tokens, positions, segments)), (tokens[0], weights))
        if backward:
            value.backward()
    by_module = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}

    def parts(stack: str, *inside: str) -> int:
        blocks = range(len(model.get_submodule(stack)))
        return sum(by_module.get(f"EncoderDecoder.{stack}.{block}{name}", 0) for block in blocks for name in inside)

    total = counter.get_total_flops()
    flops = Flops(
        encoder=parts("encoder", ""),
        decoder=parts("decoder", ".self_attention", ".feed_forward"),
        cross_attention=parts("decoder", ".cross_attention"),
        output_projection=total - by_module["EncoderDecoder"],
    )
    return flops, total


shapes = st.builds(
    build,
    encoder_layers=st.integers(1, 3),
    decoder_layers=st.integers(1, 3),
    heads=st.integers(1, 3),
    inner=st.integers(1, 40),
)


@settings(max_examples=25, deadline=None)
@given(shapes, st.lists(st.tuples(st.integers(1, 24), st.integers(0, 24), st.integers(1, 24)), min_size=1, max_size=3))
def test_the_forward_pass_by_part(model: EncoderDecoder, sentences: list[tuple[int, int, int]]) -> None:
    """Several sentences, one a row: what PyTorch counts for each, summed, is the formula of their joint work."""
    work, found = Work(), []
    for length, encoder_targets, decoder_targets in sentences:
        scored = (min(encoder_targets, length), min(decoder_targets, length))
        work += Work(length, length**2, *scored)
        found.append(counted_flops(model, length, scored)[0])
    assert count_flops(model.config, TARGETS, work) == Flops(
        *(sum(getattr(flops, part) for flops in found) for part in Flops.__dataclass_fields__)
    )


@pytest.mark.parametrize("scored", [(0, 9), (4, 9), (11, 11)])
def test_training_is_three_forward_passes(scored: tuple[int, int]) -> None:
    """Counted over forward and backward, in which the products of the fused loss are seen as well."""
    model = build(encoder_layers=2, decoder_layers=1)
    _, total = counted_flops(model, 11, scored, backward=True)
    expected = count_flops(model.config, TARGETS, Work(11, 121, *scored))
    assert expected.output_projection == 2 * sum(scored) * model.config.hidden_size * TARGETS
    # the gradient of a bias inside a feed-forward is taken as a product with ones, which is no work of the model's
    blocks, inner = 3, model.config.feed_forward_size
    assert expected.training == total - blocks * 2 * 11 * inner


def test_a_decoder_without_a_loss_counts_nothing() -> None:
    model = build(encoder_layers=2, decoder_layers=2)
    ours = count_flops(model.config, TARGETS, Work(11, 121, 4, 0))
    counted, _ = counted_flops(model, 11, (4, 0))
    assert (ours.encoder, ours.output_projection) == (counted.encoder, counted.output_projection)
    assert ours.decoder == ours.cross_attention == 0
