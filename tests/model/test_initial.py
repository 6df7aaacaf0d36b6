"""Initial weights: what they depend on, and what they do not."""

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
