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
from hzlm.model.recompute import Recompute, recompute_if
from hzlm.model.state import State
from hzlm.parallel.collectives import enter
from hzlm.parallel.mesh import ALONE, Mesh


class EncoderBlock(nn.Module):
    """x + self attention, then + feed-forward, each behind its LayerNorm."""

    def __init__(self, config: ModelConfig, mesh: Mesh = ALONE, recompute: Recompute = "none"):
        super().__init__()
        width = config.hidden_size
        self.mesh = mesh
        self.recompute = recompute
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, config.attention_dropout, mesh, recompute)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feed_forward_size, mesh)
        self.dropout = nn.Dropout(config.dropout)

    def transform(self, x: Tensor, segments: Tensor) -> Tensor:
        """x [R, L, W], segments [R, L] -> [R, L, W]; with `split_rows` x and the result have this rank's rows only."""
        normal = enter(self.attention_norm(x), self.mesh)
        bias = attention_bias(segments, segments, causal=False, dtype=x.dtype)
        x = x + self.dropout(self.attention(normal, normal, bias))
        transformed: Tensor = x + self.dropout(self.feed_forward(enter(self.feed_forward_norm(x), self.mesh)))
        return transformed

    def forward(self, state: State) -> State:
        """Transforms the source, hands the target on."""
        hidden, segments = state
        source, target = hidden.unbind(0)
        transformed = recompute_if(self.recompute == "whole", self.transform, source, segments)
        return torch.stack([transformed, target]), segments


class DecoderBlock(nn.Module):
    """x + causal self attention, + cross attention to the encoder, + feed-forward, each behind its LayerNorm."""

    def __init__(self, config: ModelConfig, mesh: Mesh = ALONE, recompute: Recompute = "none"):
        super().__init__()
        width = config.hidden_size
        self.mesh = mesh
        self.recompute = recompute
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, config.heads, config.attention_dropout, mesh, recompute)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = Attention(width, config.heads, config.attention_dropout, mesh, recompute)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, config.feed_forward_size, mesh)
        self.dropout = nn.Dropout(config.dropout)

    def transform(self, x: Tensor, memory: Tensor, segments: Tensor) -> Tensor:
        """x [R, L, W] (target), memory [R, L, W] (encoder output), segments [R, L] of both -> [R, L, W].

        Without `split_rows` the memory was `enter`ed by the layer that made it, once for all decoder blocks; with it
        every block gathers its rows. x, memory and the result have this rank's rows only then.
        """
        normal = enter(self.self_norm(x), self.mesh)
        causal = attention_bias(segments, segments, causal=True, dtype=x.dtype)
        x = x + self.dropout(self.self_attention(normal, normal, causal))
        full = attention_bias(segments, segments, causal=False, dtype=x.dtype)
        memory = enter(memory, self.mesh) if self.mesh.split_rows else memory
        x = x + self.dropout(self.cross_attention(enter(self.cross_norm(x), self.mesh), memory, full))
        transformed: Tensor = x + self.dropout(self.feed_forward(enter(self.feed_forward_norm(x), self.mesh)))
        return transformed

    def forward(self, state: State) -> State:
        """Transforms the target, hands the encoder's output on."""
        hidden, segments = state
        source, target = hidden.unbind(0)
        transformed = recompute_if(self.recompute == "whole", self.transform, target, source, segments)
        return torch.stack([source, transformed]), segments
