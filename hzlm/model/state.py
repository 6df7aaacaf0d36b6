"""What flows from layer to layer, and across the border of two pipeline stages.

Shapes: R rows of L positions in a micro-batch, W the hidden size. Source and target are stacked in one tensor,
since the engine's backward pass runs once for each floating tensor that leaves a stage. With `split_rows` (see
`hzlm.parallel.mesh.Mesh`) the hidden state has this rank's rows only; everything else always has all of them.
"""

from torch import Tensor

# tokens int64 [2, R, L] (source, target input), positions int64 [R, L], segments int32 [R, L]
Batch = tuple[Tensor, Tensor, Tensor]
# the batch and this rank's part of the token table
Lookup = tuple[Tensor, Tensor, Tensor, Tensor]
# hidden [2, R, L, W] (source, target), segments
State = tuple[Tensor, Tensor]
