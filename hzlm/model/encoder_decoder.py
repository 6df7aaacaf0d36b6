"""The encoder-decoder as one list of layers, and as a model that encodes and decodes sentences.

Training hands the list to the pipeline engine; decoding encodes here and goes on in `hzlm.decode.incremental`.
Numerically the network is Hugging Face's Blenderbot with ReLU, which the tests check it against.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hzlm.config import ModelConfig
from hzlm.model.blocks import DecoderBlock, EncoderBlock
from hzlm.model.embedding import PositionEmbedding, TokenEmbedding
from hzlm.model.initial import initialize
from hzlm.model.setup import Setup
from hzlm.model.state import Batch, State
from hzlm.parallel.collectives import enter


class EncoderNorm(nn.Module):
    """The encoder's final LayerNorm; with `aligned`, its output at t is also added to the decoder's input at t."""

    def __init__(self, config: ModelConfig, setup: Setup):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.aligned = config.aligned
        self.setup = setup

    def forward(self, state: State) -> State:
        """Normalises the source.

        Without `split_rows` what it gives is `enter`ed: whatever uses the memory behind it (cross attention, the loss
        of the encoder) leaves each tensor-parallel rank a part of its gradient, and here the parts are summed.
        """
        hidden, segments = state
        source, target = hidden.unbind(0)
        normal = self.setup.normalise(source, self.norm)
        mesh = self.setup.mesh
        memory = normal if mesh.split_rows else enter(normal, mesh)
        return torch.stack([memory, target + normal if self.aligned else target]), segments


class DecoderNorm(nn.Module):
    """The decoder's final LayerNorm."""

    def __init__(self, config: ModelConfig, setup: Setup):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.setup = setup

    def forward(self, state: State) -> State:
        """Normalises the target."""
        hidden, segments = state
        source, target = hidden.unbind(0)
        return torch.stack([source, self.setup.normalise(target, self.norm)]), segments


@dataclass(frozen=True)
class Layer:
    """How to build one layer: its name in the model, its class and the arguments of that class."""

    name: str
    module: type[nn.Module]
    arguments: tuple[Any, ...]

    def build(self) -> nn.Module:
        """A new module with its memory not yet filled."""
        return self.module(*self.arguments)


def plan_layers(config: ModelConfig, vocabulary_size: int, target_start: int, setup: Setup) -> list[Layer]:
    """The layers in the order they run. The first, the token table, runs once more after the last (`project`)."""

    def named(name: str, module: type[nn.Module]) -> Layer:
        return Layer(name, module, (config, name, setup))

    return [
        Layer("tokens", TokenEmbedding, (vocabulary_size, target_start, config.hidden_size, setup)),
        named("positions", PositionEmbedding),
        *(named(f"encoder.{i}", EncoderBlock) for i in range(config.encoder_layers)),
        Layer("encoder_norm", EncoderNorm, (config, setup)),
        *(named(f"decoder.{i}", DecoderBlock) for i in range(config.decoder_layers)),
        Layer("decoder_norm", DecoderNorm, (config, setup)),
    ]


class EncoderDecoder(nn.Module):
    """The whole model in one process.

    Ids below `target_start` are never a target: logits are over the ids from `target_start` on.
    """

    tokens: TokenEmbedding
    positions: PositionEmbedding
    encoder: nn.ModuleList
    encoder_norm: EncoderNorm
    decoder: nn.ModuleList
    decoder_norm: DecoderNorm

    def __init__(self, config: ModelConfig, vocabulary_size: int, target_start: int, setup: Setup | None = None):
        super().__init__()
        self.config = config
        self.target_start = target_start
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        plan = plan_layers(config, vocabulary_size, target_start, setup or Setup())
        self._names = [layer.name for layer in plan]
        for layer in plan:
            stack, _, number = layer.name.partition(".")
            if number:
                self.get_submodule(stack).add_module(number, layer.build())
            else:
                self.add_module(stack, layer.build())

    def layers(self) -> list[tuple[str, nn.Module]]:
        """Each layer with its name, in the order of `plan_layers`."""
        return [(name, self.get_submodule(name)) for name in self._names]

    def initialize(self, seed: int) -> "EncoderDecoder":
        """Fills every parameter from (seed, name); returns the model."""
        for name, layer in self.layers():
            initialize(layer, name, seed)
        return self

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Token ids of source and target -> hidden [2, R, L, W] (encoder output, decoder output) and the table."""
        state: Any = batch
        for _, layer in self.layers():
            state = layer(state)
        return self.tokens.project(state)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., W] -> [..., targets]; index i is the token id target_start + i."""
        return hidden @ self.tokens.weight[self.target_start :].T

    def encode(self, source: Tensor, segments: Tensor) -> Tensor:
        """source int64 [B, N], segments [B, N] (1 on the sentence, 0 after its end) -> [B, N, W]."""
        x = self.positions.embed_source(source, self.tokens.weight)
        for block in self.encoder:
            assert isinstance(block, EncoderBlock)
            x = block.transform(x, segments, None)
        encoded: Tensor = self.encoder_norm.norm(x)
        return encoded
