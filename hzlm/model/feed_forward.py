"""Position-wise feed-forward network (Vaswani et al. 2017, equation 2)."""

from torch import Tensor, nn
from torch.nn import functional


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2."""

    def __init__(self, hidden_size: int, feed_forward_size: int):
        super().__init__()
        self.expand = nn.Linear(hidden_size, feed_forward_size)
        self.contract = nn.Linear(feed_forward_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """[..., W] -> [..., W]."""
        contracted: Tensor = self.contract(functional.relu(self.expand(x)))
        return contracted
