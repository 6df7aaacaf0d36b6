"""Multi-head attention, shared by self attention and cross attention."""

from torch import Tensor, nn

from hzlm.kernels.attention import attention


class Attention(nn.Module):
    """Queries from one sequence, keys and values from another (or the same); biases in every projection."""

    def __init__(self, hidden_size: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        """x [rows, queries, W] attends to memory [rows, keys, W]; bias broadcasts to [rows, heads, queries, keys]."""
        dropout = self.dropout if self.training else 0.0
        key, value = self._split(self.key(memory)), self._split(self.value(memory))
        heads = attention(self._split(self.query(x)), key, value, bias, dropout)
        joined: Tensor = self.output(heads.transpose(1, 2).reshape(x.shape))
        return joined

    def _split(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        return x.view(rows, length, self.heads, width // self.heads).transpose(1, 2)
