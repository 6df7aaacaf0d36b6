"""Linear layers split over the tensor-parallel ranks (Shoeybi et al. 2019, arXiv 1909.08053, section 3).

A column-parallel layer computes some of the outputs; a row-parallel one takes these as its inputs and sums over the
ranks. Between the two nothing is sent. A layer may leave its bias to the operation behind it, which does more at once.
"""

from torch import Tensor, nn
from torch.nn import functional

from hzlm.parallel.collectives import leave
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import Sharding, divide, shard


class ColumnParallelLinear(nn.Linear):
    """x W^T + b with the rows of W, which are the outputs, divided over the ranks. Its input was `enter`ed."""

    def __init__(self, inputs: int, outputs: int, mesh: Mesh, adds_bias: bool = True):
        """adds_bias: whether `forward` adds b, or leaves it to whatever comes next."""
        start, size = divide(outputs, mesh.tensor)
        super().__init__(inputs, size)
        self.adds_bias = adds_bias
        if mesh.tensor.size > 1:
            shard(self.weight, Sharding((outputs, inputs), 0, ((start, size),)))
            shard(self.bias, Sharding((outputs,), 0, ((start, size),)))

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., this rank's outputs]."""
        return functional.linear(x, self.weight, self.bias if self.adds_bias else None)


class RowParallelLinear(nn.Linear):
    """x W^T with the columns of W, which are the inputs, divided over the ranks; every rank has all of the bias.

    The bias is added once, behind the sum over the ranks: that is left to whatever comes next.
    """

    adds_bias = False

    def __init__(self, inputs: int, outputs: int, mesh: Mesh):
        start, size = divide(inputs, mesh.tensor)
        super().__init__(size, outputs)
        self.mesh = mesh
        if mesh.tensor.size > 1:
            shard(self.weight, Sharding((outputs, inputs), 1, ((start, size),)))

    def forward(self, x: Tensor) -> Tensor:
        """[..., this rank's inputs] -> [..., outputs] without the bias, with `split_rows` of its own rows."""
        return leave(functional.linear(x, self.weight), self.mesh)
