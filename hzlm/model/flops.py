"""How many floating-point operations a training step has to make, for the utilisation of the machine.

A product of an [a, b] and a [b, c] matrix is 2abc operations; nothing but matrix products is counted. With W the
hidden size, F the feed-forward size, E and D blocks of encoder and decoder, C target tokens, n characters in a sentence
and S positions scored by the output projection, one forward pass over one sentence makes

    encoder             E (8 n W^2 + 4 n^2 W + 4 n W F)    query, key, value, output; scores, values; feed-forward
    decoder             D (8 n W^2 + 4 n^2 W + 4 n W F)    the same
    cross attention     D (8 n W^2 + 4 n^2 W)              query and output of the target, key and value of the source
    output projection   2 S W C

and the backward pass twice that: each product has a gradient for either factor. These are the operations of the
model, not of the program. Only positions with a character count, and attention only within a sentence: what a packed
row computes across the border of two sentences or behind the last one is waste. Causal attention counts whole, as in
PaLM (Chowdhery et al. 2022, arXiv 2204.02311, appendix B) and Megatron-LM, so that shares can be compared with
published ones; at sentence lengths the half of it that is masked is 1 % of a step or less. Where only the encoder has
a loss, no one needs the decoder: its products and those of cross attention count 0.
"""

from dataclasses import dataclass

from hzlm.config import ModelConfig


@dataclass(frozen=True)
class Work:
    """What a step computes on; counts over all of its sentences. `+` joins two steps."""

    positions: int = 0
    """Characters: the sum of n."""
    pairs: int = 0
    """Pairs of positions of one sentence: the sum of n^2."""
    encoder_targets: int = 0
    """Encoder outputs with a loss."""
    decoder_targets: int = 0
    """Decoder outputs with a loss."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.positions + other.positions,
            self.pairs + other.pairs,
            self.encoder_targets + other.encoder_targets,
            self.decoder_targets + other.decoder_targets,
        )


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of forward passes, by part of the model."""

    encoder: int
    decoder: int
    """Self attention and feed-forward."""
    cross_attention: int
    output_projection: int

    @property
    def forward(self) -> int:
        """All parts together."""
        return self.encoder + self.decoder + self.cross_attention + self.output_projection

    @property
    def training(self) -> int:
        """Forward and backward."""
        return 3 * self.forward


def count_flops(config: ModelConfig, targets: int, work: Work) -> Flops:
    """The operations of a model's forward pass.

    Args:
        config: shape of the model.
        targets: tokens that the output layer chooses from (`Vocabulary.target_size`).
        work: what it computes on.
    """
    width, inner = config.hidden_size, config.feed_forward_size
    attention = 8 * work.positions * width**2 + 4 * work.pairs * width
    feed_forward = 4 * work.positions * width * inner
    decoder_layers = config.decoder_layers if work.decoder_targets else 0
    return Flops(
        encoder=config.encoder_layers * (attention + feed_forward),
        decoder=decoder_layers * (attention + feed_forward),
        cross_attention=decoder_layers * attention,
        output_projection=2 * (work.encoder_targets + work.decoder_targets) * width * targets,
    )
