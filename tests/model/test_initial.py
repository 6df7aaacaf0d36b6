"""Initial weights: what they depend on, and that the decoder starts on the diagonal."""

import pytest
import torch

from hzlm.config import ModelConfig
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary


def build(vocabulary: Vocabulary, config: ModelConfig, seed: int, **changes: int) -> EncoderDecoder:
    config = config.model_copy(update=changes)
    return EncoderDecoder(config, vocabulary.size, vocabulary.target_start).initialize(seed)


def test_values_depend_on_seed_and_name_alone(vocabulary: Vocabulary, model_config: ModelConfig) -> None:
    torch.manual_seed(0)
    first = dict(build(vocabulary, model_config, 7).named_parameters())
    torch.manual_seed(1)
    deeper = dict(build(vocabulary, model_config, 7, encoder_layers=3).named_parameters())
    assert all(torch.equal(tensor, deeper[name]) for name, tensor in first.items())
    other = dict(build(vocabulary, model_config, 8).named_parameters())
    assert not torch.equal(first["tokens.weight"], other["tokens.weight"])
    assert first["tokens.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(first["encoder.0.attention.query.weight"], first["encoder.1.attention.query.weight"])
    for name, tensor in first.items():
        expected = 1.0 if name.endswith("norm.weight") else 0.0 if name.endswith("bias") else None
        assert expected is None or bool((tensor == expected).all()), name


@pytest.mark.parametrize(("hidden_size", "heads"), [(256, 4), (512, 8)])
def test_cross_attention_starts_on_the_diagonal(vocabulary: Vocabulary, hidden_size: int, heads: int) -> None:
    config = ModelConfig(
        hidden_size=hidden_size, heads=heads, feed_forward_size=256, encoder_layers=2, decoder_layers=1, max_length=32
    )
    model = build(vocabulary, config, 1).eval()
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(4, vocabulary.target_start, (1, 24), generator=generator)
    target = torch.randint(vocabulary.target_start, vocabulary.size, (1, 24), generator=generator)
    memory = model.encode(source, torch.ones(1, 24, dtype=torch.int32))
    block = model.decoder[0]
    x = block.cross_norm(model.tokens.weight[target] + model.positions.target[:24])
    attention = block.cross_attention
    key = attention._split(attention.key(memory)).transpose(1, 2)
    query = attention._split(attention.query(x)).transpose(1, 2)
    weights = (query @ key.transpose(-1, -2) / (hidden_size // heads) ** 0.5).softmax(-1)
    diagonal = weights.diagonal(dim1=-2, dim2=-1).mean().item()
    hits = (weights.argmax(-1) == torch.arange(24)).float().mean().item()
    assert hits > 0.25, "its own place is the best of 24 for many positions, not for one in 24"
    assert diagonal > 1.5 / 24
