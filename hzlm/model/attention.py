"""Multi-head attention, shared by self attention and cross attention."""

from torch import Tensor, nn

from hzlm.kernels.attention import attention
from hzlm.model.recompute import Recompute, recompute_if
from hzlm.parallel.linear import ColumnParallelLinear, RowParallelLinear
from hzlm.parallel.mesh import ALONE, Mesh
from hzlm.parallel.random import own_randomness


class Attention(nn.Module):
    """Queries from one sequence, keys and values from another (or the same); biases in every projection.

    The heads are divided over the tensor-parallel ranks.
    """

    def __init__(self, hidden_size: int, heads: int, dropout: float, mesh: Mesh = ALONE, recompute: Recompute = "none"):
        super().__init__()
        self.head_size = hidden_size // heads
        self.dropout = dropout
        self.mesh = mesh
        self.recompute = recompute
        self.query = ColumnParallelLinear(hidden_size, hidden_size, mesh)
        self.key = ColumnParallelLinear(hidden_size, hidden_size, mesh)
        self.value = ColumnParallelLinear(hidden_size, hidden_size, mesh)
        self.output = RowParallelLinear(hidden_size, hidden_size, mesh)

    def forward(self, x: Tensor, memory: Tensor, bias: Tensor) -> Tensor:
        """x attends to memory, both `enter`ed where the mesh has tensor-parallel ranks.

        Args:
            x: [rows, queries, W].
            memory: [rows, keys, W].
            bias: broadcasts to [rows, heads, queries, keys].

        Returns:
            [rows, queries, W], with `split_rows` of this rank's own rows.
        """
        dropout = self.dropout if self.training else 0.0
        query, key, value = self._split(self.query(x)), self._split(self.key(memory)), self._split(self.value(memory))
        with own_randomness(self.mesh, dropout > 0.0):
            heads = recompute_if(self.recompute == "selective", attention, query, key, value, bias, dropout)
        joined: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return joined

    def _split(self, x: Tensor) -> Tensor:
        """[rows, length, heads * size] -> [rows, heads, length, size], of this rank's heads."""
        rows, length, _ = x.shape
        return x.view(rows, length, -1, self.head_size).transpose(1, 2)
