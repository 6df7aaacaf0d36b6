"""Position-wise feed-forward network (Vaswani et al. 2017, equation 2)."""

from torch import Tensor, nn
from torch.nn import functional

from hzlm.parallel.linear import ColumnParallelLinear, RowParallelLinear
from hzlm.parallel.mesh import ALONE, Mesh


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2, the inner width divided over the tensor-parallel ranks."""

    def __init__(self, hidden_size: int, feed_forward_size: int, mesh: Mesh = ALONE):
        super().__init__()
        self.expand = ColumnParallelLinear(hidden_size, feed_forward_size, mesh)
        self.contract = RowParallelLinear(feed_forward_size, hidden_size, mesh)

    def forward(self, x: Tensor) -> Tensor:
        """[..., W], `enter`ed -> [..., W]."""
        contracted: Tensor = self.contract(functional.relu(self.expand(x)))
        return contracted
