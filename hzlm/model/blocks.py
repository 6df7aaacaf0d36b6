"""Pre-LayerNorm Transformer blocks of the encoder and the decoder (Xiong et al. 2020, figure 1b).

`forward` takes and gives the state that flows through the layers (`hzlm.model.state`); `transform` and `step` do
the work on one sequence, for training and for decoding token by token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hzlm.config import ModelConfig
from hzlm.kernels.attention import attention_bias
from hzlm.model.attention import Attention
from hzlm.model.feed_forward import FeedForward
from hzlm.model.state import State


class EncoderBlock(nn.Module):
    """x + self attention, then + feed-forward, each behind its LayerNorm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.hidden_size
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, config.attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feed_forward_size)
        self.dropout = nn.Dropout(config.dropout)

    def transform(self, x: Tensor, segments: Tensor) -> Tensor:
        """x [R, L, W], segments [R, L] -> [R, L, W]."""
        normal = self.attention_norm(x)
        bias = attention_bias(segments, segments, causal=False, dtype=x.dtype)
        x = x + self.dropout(self.attention(normal, normal, bias))
        transformed: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return transformed

    def forward(self, state: State) -> State:
        """Transforms the source, hands the target on."""
        hidden, segments = state
        source, target = hidden.unbind(0)
        return torch.stack([self.transform(source, segments), target]), segments


@dataclass
class DecoderCache:
    """What one decoder block keeps while it decodes: B sentences, K beams, H heads, D head size.

    `self_keys`, `self_values`: [B * K, H, steps so far, D]. `cross_keys`, `cross_values`: [B, H, N, D], shared by
    the beams of a sentence. `cross_bias`: [B, 1, 1, N].
    """

    self_keys: Tensor
    self_values: Tensor
    cross_keys: Tensor
    cross_values: Tensor
    cross_bias: Tensor

    def reorder(self, beams: Tensor) -> None:
        """Lets row i go on from what was row beams[i]; beams int64 [B * K]."""
        self.self_keys = self.self_keys.index_select(0, beams)
        self.self_values = self.self_values.index_select(0, beams)


class DecoderBlock(nn.Module):
    """x + causal self attention, + cross attention to the encoder, + feed-forward, each behind its LayerNorm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.hidden_size
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, config.heads, config.attention_dropout)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, config.heads, config.attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feed_forward_size)
        self.dropout = nn.Dropout(config.dropout)

    def transform(self, x: Tensor, memory: Tensor, segments: Tensor) -> Tensor:
        """x [R, L, W] (target), memory [R, L, W] (encoder output), segments [R, L] of both -> [R, L, W]."""
        normal = self.self_norm(x)
        causal = attention_bias(segments, segments, causal=True, dtype=x.dtype)
        x = x + self.dropout(self.self_attention(normal, normal, causal))
        full = attention_bias(segments, segments, causal=False, dtype=x.dtype)
        x = x + self.dropout(self.cross_attention(self.cross_norm(x), memory, full))
        transformed: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return transformed

    def forward(self, state: State) -> State:
        """Transforms the target, hands the encoder's output on."""
        hidden, segments = state
        source, target = hidden.unbind(0)
        return torch.stack([source, self.transform(target, source, segments)]), segments

    def start(self, memory: Tensor, segments: Tensor, beams: int) -> DecoderCache:
        """The cache before the first step. memory [B, N, W]; segments [B, N], 1 on the sentence, 0 after its end."""
        cross_keys, cross_values = self.cross_attention.keys_and_values(memory)
        batch, heads, _, head_size = cross_keys.shape
        nothing = memory.new_empty(batch * beams, heads, 0, head_size)
        sentence = torch.ones_like(segments[:, :1])
        bias = attention_bias(sentence, segments, causal=False, dtype=memory.dtype)
        return DecoderCache(nothing, nothing, cross_keys, cross_values, bias)

    def step(self, x: Tensor, cache: DecoderCache) -> Tensor:
        """One more position of every beam: x [B * K, 1, W] -> [B * K, 1, W]; the cache grows by it."""
        normal = self.self_norm(x)
        key, value = self.self_attention.keys_and_values(normal)
        cache.self_keys = torch.cat([cache.self_keys, key], dim=2)
        cache.self_values = torch.cat([cache.self_values, value], dim=2)
        x = x + self.self_attention.attend(normal, cache.self_keys, cache.self_values, None)
        # the beams of a sentence are the queries of one row: they share its keys and values
        sentences = cache.cross_keys.shape[0]
        beams = self.cross_norm(x).view(sentences, -1, x.shape[-1])
        crossed = self.cross_attention.attend(beams, cache.cross_keys, cache.cross_values, cache.cross_bias)
        x = x + crossed.view(x.shape)
        transformed: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return transformed
