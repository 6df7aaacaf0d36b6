"""The same network as a Hugging Face model: `BlenderbotForConditionalGeneration`, ReLU, embeddings not scaled.

Both have pre-LayerNorm blocks, a learned position table on either side, a final LayerNorm on either side, and an
output projection tied to the token table.
"""

from typing import Any

import torch
from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration, GenerationConfig

from hzlm.config import ModelConfig
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary

RENAMED = {
    "attention_norm": "self_attn_layer_norm", "attention": "self_attn", "feed_forward_norm": "final_layer_norm",
    "self_norm": "self_attn_layer_norm", "self_attention": "self_attn", "cross_norm": "encoder_attn_layer_norm",
    "cross_attention": "encoder_attn", "query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj",
    "expand": "fc1", "contract": "fc2",
}  # fmt: skip


def make_twin(config: ModelConfig, vocabulary_size: int) -> BlenderbotForConditionalGeneration:
    """The network of this shape with random weights, in float32.

    Raises:
        UserError: the model is `aligned`, which Blenderbot does not know.
    """
    if config.aligned:
        raise UserError("model.aligned is on, which Hugging Face's Blenderbot does not have; take a model without it")
    tokens: dict[str, Any] = {
        "pad_token_id": Vocabulary.pad_id, "bos_token_id": Vocabulary.bos_id, "eos_token_id": None,
        "decoder_start_token_id": Vocabulary.bos_id, "forced_eos_token_id": None,
    }  # fmt: skip
    twin = BlenderbotForConditionalGeneration(
        BlenderbotConfig(
            vocab_size=vocabulary_size, d_model=config.hidden_size, max_position_embeddings=config.max_length,
            encoder_layers=config.encoder_layers, decoder_layers=config.decoder_layers,
            encoder_attention_heads=config.heads, decoder_attention_heads=config.heads,
            encoder_ffn_dim=config.feed_forward_size, decoder_ffn_dim=config.feed_forward_size,
            activation_function="relu", dropout=config.dropout, attention_dropout=config.attention_dropout,
            activation_dropout=0.0, scale_embedding=False, **tokens,
        )
    )  # fmt: skip
    # without an end token and without the defaults of Blenderbot's own checkpoints
    twin.generation_config = GenerationConfig(**tokens)
    return twin


@torch.no_grad()
def copy_weights(model: EncoderDecoder, twin: BlenderbotForConditionalGeneration) -> None:
    """Gives the twin the weights of the model."""
    theirs = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        theirs[twin_name(name)].copy_(parameter)


def twin_name(name: str) -> str:
    """Our parameter name -> Hugging Face's."""
    if name == "tokens.weight":
        return "model.shared.weight"
    if name.startswith("positions."):
        return f"model.{'encoder' if name.endswith('source') else 'decoder'}.embed_positions.weight"
    side, *parts = name.split(".")
    if side.endswith("_norm"):
        return f"model.{side.removesuffix('_norm')}.layer_norm.{parts[-1]}"
    number, *inner = parts
    inner = [part for part in inner if part != "feed_forward"]
    return ".".join(["model", side, "layers", number, *(RENAMED.get(part, part) for part in inner)])
