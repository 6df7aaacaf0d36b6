"""Linear layers split over the tensor-parallel ranks (Shoeybi et al. 2019, arXiv 1909.08053, section 3).

A column-parallel layer computes some of the outputs; a row-parallel one takes these as its inputs and sums over the
ranks. Between the two nothing is sent.
"""

from torch import Tensor, nn
from torch.nn import functional

from hzlm.parallel.collectives import leave
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import Sharding, divide, shard


class ColumnParallelLinear(nn.Linear):
    """x W^T + b with the rows of W, which are the outputs, divided over the ranks. Its input was `enter`ed."""

    def __init__(self, inputs: int, outputs: int, mesh: Mesh):
        start, size = divide(outputs, mesh.tensor)
        super().__init__(inputs, size)
        if mesh.tensor.size > 1:
            shard(self.weight, Sharding((outputs, inputs), 0, ((start, size),)))
            shard(self.bias, Sharding((outputs,), 0, ((start, size),)))


class RowParallelLinear(nn.Linear):
    """x W^T + b with the columns of W, which are the inputs, divided over the ranks; every rank has all of b."""

    def __init__(self, inputs: int, outputs: int, mesh: Mesh):
        start, size = divide(inputs, mesh.tensor)
        super().__init__(size, outputs)
        self.mesh = mesh
        if mesh.tensor.size > 1:
            shard(self.weight, Sharding((outputs, inputs), 1, ((start, size),)))

    def forward(self, x: Tensor) -> Tensor:
        """[..., this rank's inputs] -> [..., outputs], with `split_rows` of its own rows."""
        if self.mesh.tensor.size == 1:
            return super().forward(x)
        return leave(functional.linear(x, self.weight), self.mesh) + self.bias
