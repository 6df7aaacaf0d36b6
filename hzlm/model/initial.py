"""Initial weights: a function of (seed, name of the tensor), never of the layout or of what was built before."""

import torch
from torch import nn

from hzlm.parallel.random import make_generator

DEVIATION = 0.02


@torch.no_grad()
def initialize(layer: nn.Module, layer_name: str, seed: int) -> None:
    """Fills a layer's parameters: LayerNorm 1 and 0, biases 0, everything else normal with deviation 0.02."""
    for name, parameter in layer.named_parameters():
        owner = layer.get_submodule(name.rpartition(".")[0])
        if name.endswith("bias"):
            parameter.zero_()
        elif isinstance(owner, nn.LayerNorm):
            parameter.fill_(1.0)
        else:
            generator = make_generator(seed, "parameter", f"{layer_name}.{name}")
            values = torch.empty(parameter.shape).normal_(0.0, DEVIATION, generator=generator)
            parameter.copy_(values)
