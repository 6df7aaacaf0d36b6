"""Multi-head attention, shared by self attention and cross attention."""

from torch import Tensor, nn

from hzlm.config import ModelConfig
from hzlm.kernels.faces import TORCH
from hzlm.model.recompute import recompute_if
from hzlm.model.setup import Setup
from hzlm.parallel.linear import ColumnParallelLinear, RowParallelLinear
from hzlm.parallel.random import Passage, own_randomness


class Attention(nn.Module):
    """Queries from one sequence, keys and values from another (or the same); biases in every projection.

    The heads are divided over the tensor-parallel ranks.
    """

    def __init__(self, config: ModelConfig, site: str, setup: Setup):
        """site: names this attention within its layer."""
        super().__init__()
        width = config.hidden_size
        self.head_size = width // config.heads
        self.dropout = config.attention_dropout
        self.site = site
        self.setup = setup
        self.query = ColumnParallelLinear(width, width, setup.mesh)
        self.key = ColumnParallelLinear(width, width, setup.mesh)
        self.value = ColumnParallelLinear(width, width, setup.mesh)
        self.output = RowParallelLinear(width, width, setup.mesh)

    def forward(self, x: Tensor, memory: Tensor, segments: Tensor, causal: bool, passage: Passage | None) -> Tensor:
        """x attends to memory, both `enter`ed where the mesh has tensor-parallel ranks.

        Args:
            x, memory: [rows, length, W].
            segments: [rows, length] of both.
            causal: whether a position sees none behind it.
            passage: as of `Setup.begin_pass`.

        Returns:
            [rows, length, W], with `split_rows` of this rank's own rows, without the bias of the output projection.
        """
        query, key, value = self._split(self.query(x)), self._split(self.key(memory)), self._split(self.value(memory))
        draw = self.setup.draw_weights(passage, self.site, self.dropout, query)
        with own_randomness(self.setup.mesh, draw.rate > 0.0 and self.setup.kernels is TORCH):
            attend = self.setup.kernels.attention
            selective = self.setup.recompute == "selective"
            heads = recompute_if(selective, attend, query, key, value, segments, causal, draw)
        joined: Tensor = self.output(heads.flatten(2))
        return joined

    def _split(self, x: Tensor) -> Tensor:
        """[rows, length, heads * size] -> [rows, length, heads, size], of this rank's heads."""
        return x.unflatten(2, (-1, self.head_size))
