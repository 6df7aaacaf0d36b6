"""Embeddings: one token table for sources and targets, one position table for each."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hzlm.model.state import Batch, Embedded, State
from hzlm.parallel.collectives import own_rows
from hzlm.parallel.mesh import ALONE, Mesh
from hzlm.parallel.sharding import shard
from hzlm.parallel.vocabulary import divide_table, embed_parallel


class TokenEmbedding(nn.Module):
    """The token table. First layer of the model and, tied, its output projection."""

    def __init__(self, vocabulary_size: int, target_start: int, hidden_size: int, mesh: Mesh = ALONE):
        super().__init__()
        self.mesh = mesh
        self.sharding = divide_table(vocabulary_size, target_start, hidden_size, mesh.tensor)
        rows = sum(size for _, size in self.sharding.pieces)
        self.weight = nn.Parameter(torch.empty(rows, hidden_size))
        if mesh.tensor.size > 1:
            shard(self.weight, self.sharding)

    def embed(self, tokens: Tensor) -> Tensor:
        """int64 [rows, ...] -> [rows, ..., hidden size], with `split_rows` of this rank's rows; no scale, no norm."""
        if self.mesh.tensor.size == 1:
            return functional.embedding(tokens, self.weight)
        return embed_parallel(tokens, self.weight, self.sharding, self.mesh)

    def forward(self, batch: Batch) -> Embedded:
        """First layer: token ids -> their vectors."""
        tokens, positions, segments = batch
        return self.embed(tokens.transpose(0, 1)).transpose(0, 1), positions, segments

    def project(self, state: State) -> tuple[Tensor, Tensor]:
        """Last layer: hands the table on beside the hidden state, since only the loss knows which logits count."""
        return state[0], self.weight


class PositionEmbedding(nn.Module):
    """Learned positions: a table for the source, a table for the target."""

    def __init__(self, max_length: int, hidden_size: int, dropout: float, mesh: Mesh = ALONE):
        super().__init__()
        self.mesh = mesh
        self.source = nn.Parameter(torch.empty(max_length, hidden_size))
        self.target = nn.Parameter(torch.empty(max_length, hidden_size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Embedded) -> State:
        """Adds the vector of each place, counted from the start of its segment."""
        tokens, positions, segments = embedded
        own = own_rows(positions, self.mesh)
        places = torch.stack([functional.embedding(own, self.source), functional.embedding(own, self.target)])
        return self.dropout(tokens + places), segments
