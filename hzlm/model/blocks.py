"""Pre-LayerNorm Transformer blocks of the encoder and the decoder (Xiong et al. 2020, figure 1b).

`forward` takes and gives the state that flows through the layers (`hzlm.model.state`); `transform` does the work on
one sequence. Decoding position by position is `hzlm.decode.incremental`.
"""

import torch
from torch import Tensor, nn

from hzlm.config import ModelConfig
from hzlm.model.attention import Attention
from hzlm.model.feed_forward import FeedForward
from hzlm.model.recompute import recompute_if
from hzlm.model.setup import Setup
from hzlm.model.state import State
from hzlm.parallel.collectives import enter
from hzlm.parallel.random import Passage


class Block(nn.Module):
    """What both kinds of block share. A sublayer's bias, dropout, residual and the next LayerNorm are one operation."""

    def __init__(self, config: ModelConfig, name: str, setup: Setup):
        """name: of the layer in the model."""
        super().__init__()
        self.name = name
        self.setup = setup
        self.dropout = config.dropout
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = FeedForward(config, setup)

    def add_attention(
        self, x: Tensor, product: Tensor, attention: Attention, norm: nn.LayerNorm, passage: Passage | None
    ) -> tuple[Tensor, Tensor]:
        """x + dropout(what `attention` gave + its bias), and the `norm` of that."""
        draw = self.setup.draw_outside(passage, f"{attention.site}.output", self.dropout, x)
        bias, kernels = attention.output.bias, self.setup.kernels
        return kernels.add_layer_norm(product, bias, x, norm.weight, norm.bias, draw, norm.eps)

    def add_feed_forward(self, x: Tensor, normal: Tensor, passage: Passage | None) -> Tensor:
        """x + dropout(feed-forward network of its norm)."""
        product = self.feed_forward(enter(normal, self.setup.mesh), passage)
        draw = self.setup.draw_outside(passage, "feed_forward.output", self.dropout, x)
        return self.setup.kernels.add(product, self.feed_forward.contract.bias, x, draw)


class EncoderBlock(Block):
    """x + self attention, then + feed-forward, each behind its LayerNorm."""

    def __init__(self, config: ModelConfig, name: str, setup: Setup):
        super().__init__(config, name, setup)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.attention = Attention(config, "attention", setup)

    def transform(self, x: Tensor, segments: Tensor, passage: Passage | None) -> Tensor:
        """x [R, L, W], segments [R, L] -> [R, L, W]; with `split_rows` x and the result have this rank's rows only."""
        normal = enter(self.setup.normalise(x, self.attention_norm), self.setup.mesh)
        mixed = self.attention(normal, normal, segments, False, passage)
        x, normal = self.add_attention(x, mixed, self.attention, self.feed_forward_norm, passage)
        return self.add_feed_forward(x, normal, passage)

    def forward(self, state: State) -> State:
        """Transforms the source, hands the target on."""
        hidden, segments = state
        source, target = hidden.unbind(0)
        passage = self.setup.begin_pass(self.name, self.training)
        transformed = recompute_if(self.setup.recompute == "whole", self.transform, source, segments, passage)
        return torch.stack([transformed, target]), segments


class DecoderBlock(Block):
    """x + causal self attention, + cross attention to the encoder, + feed-forward, each behind its LayerNorm."""

    def __init__(self, config: ModelConfig, name: str, setup: Setup):
        super().__init__(config, name, setup)
        self.self_norm = nn.LayerNorm(config.hidden_size)
        self.self_attention = Attention(config, "self_attention", setup)
        self.cross_norm = nn.LayerNorm(config.hidden_size)
        self.cross_attention = Attention(config, "cross_attention", setup)

    def transform(self, x: Tensor, memory: Tensor, segments: Tensor, passage: Passage | None) -> Tensor:
        """x [R, L, W] (target), memory [R, L, W] (encoder output), segments [R, L] of both -> [R, L, W].

        Without `split_rows` the memory was `enter`ed by the layer that made it, once for all decoder blocks; with it
        every block gathers its rows. x, memory and the result have this rank's rows only then.
        """
        mesh = self.setup.mesh
        normal = enter(self.setup.normalise(x, self.self_norm), mesh)
        mixed = self.self_attention(normal, normal, segments, True, passage)
        x, normal = self.add_attention(x, mixed, self.self_attention, self.cross_norm, passage)
        memory = enter(memory, mesh) if mesh.split_rows else memory
        mixed = self.cross_attention(enter(normal, mesh), memory, segments, False, passage)
        x, normal = self.add_attention(x, mixed, self.cross_attention, self.feed_forward_norm, passage)
        return self.add_feed_forward(x, normal, passage)

    def forward(self, state: State) -> State:
        """Transforms the target, hands the encoder's output on."""
        hidden, segments = state
        source, target = hidden.unbind(0)
        passage = self.setup.begin_pass(self.name, self.training)
        transformed = recompute_if(self.setup.recompute == "whole", self.transform, target, source, segments, passage)
        return torch.stack([source, transformed]), segments
