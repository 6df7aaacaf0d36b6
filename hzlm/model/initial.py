"""Initial weights: a function of (seed, name of the tensor), never of the layout or of what was built before.

The decoder starts by looking at the place that it is about to fill: both position tables start with the same values,
and so do the query and the key projection of cross attention. Their product is then a similarity, highest where the
source position is the target's own. Otherwise a model has to find that diagonal first (docs/decisions.md, 10).
"""

import torch
from torch import nn

from hzlm.model.attention import Attention
from hzlm.parallel.random import make_generator
from hzlm.parallel.sharding import logical_shape, sharding_of

DEVIATION = 0.02
# cross attention's score, in nats, of two equal normalised vectors; about half of a vector is its position
DIAGONAL_SCORE = 8.0
# tensors that start with the values of another tensor of their layer
STARTS_AS = {"target": "source", "cross_attention.key.weight": "cross_attention.query.weight"}


@torch.no_grad()
def initialize(layer: nn.Module, layer_name: str, seed: int) -> None:
    """Fills a layer's parameters: LayerNorm 1 and 0, biases 0, everything else normal.

    A parameter that is a part of a logical tensor gets that part of the logical tensor's values.
    """
    for name, parameter in layer.named_parameters():
        owner = layer.get_submodule(name.rpartition(".")[0])
        if name.endswith("bias"):
            parameter.zero_()
        elif isinstance(owner, nn.LayerNorm):
            parameter.fill_(1.0)
        else:
            generator = make_generator(seed, "parameter", f"{layer_name}.{STARTS_AS.get(name, name)}")
            whole = torch.empty(logical_shape(parameter)).normal_(0.0, _deviation(layer, name), generator=generator)
            sharding = sharding_of(parameter)
            parameter.copy_(whole if sharding is None else sharding.take(whole))


def _deviation(layer: nn.Module, name: str) -> float:
    if name not in ("cross_attention.query.weight", "cross_attention.key.weight"):
        return DEVIATION
    attention = layer.get_submodule("cross_attention")
    assert isinstance(attention, Attention)
    return float((DIAGONAL_SCORE / (attention.query.in_features * attention.head_size**0.5)) ** 0.5)
