"""Pre-LayerNorm Transformer blocks of the encoder and the decoder (Xiong et al. 2020, figure 1b).

`forward` takes and gives the state that flows through the layers (`hzlm.model.state`); `transform` does the work on
one sequence. Decoding position by position is `hzlm.decode.incremental`.
"""

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
