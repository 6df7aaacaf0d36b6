"""Position-wise feed-forward network (Vaswani et al. 2017, equation 2)."""

from torch import Tensor, nn

from hzlm.config import ModelConfig
from hzlm.kernels.faces import TORCH
from hzlm.model.setup import Setup
from hzlm.parallel.linear import ColumnParallelLinear, RowParallelLinear
from hzlm.parallel.random import Passage, own_randomness


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2, the inner width divided over the tensor-parallel ranks."""

    def __init__(self, config: ModelConfig, setup: Setup):
        super().__init__()
        self.dropout = config.activation_dropout
        self.setup = setup
        self.expand = ColumnParallelLinear(config.hidden_size, config.feed_forward_size, setup.mesh, adds_bias=False)
        self.contract = RowParallelLinear(config.feed_forward_size, config.hidden_size, setup.mesh)

    def forward(self, x: Tensor, passage: Passage | None) -> Tensor:
        """[rows, length, W], `enter`ed -> [rows, length, W] of the rows that are here outside, without b2."""
        product = self.expand(x)
        draw = self.setup.draw_features(passage, "activation", self.dropout, product)
        with own_randomness(self.setup.mesh, draw.rate > 0.0 and self.setup.kernels is TORCH):
            inner = self.setup.kernels.bias_relu_dropout(product, self.expand.bias, draw)
        contracted: Tensor = self.contract(inner)
        return contracted
