"""Embeddings: one token table for sources and targets, one position table for each."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hzlm.config import ModelConfig
from hzlm.model.setup import Setup
from hzlm.model.state import Batch, Lookup, State
from hzlm.parallel.collectives import own_rows
from hzlm.parallel.sharding import shard
from hzlm.parallel.vocabulary import divide_table, embed_parallel


class TokenEmbedding(nn.Module):
    """The token table. First layer of the model and, tied, its output projection."""

    def __init__(self, vocabulary_size: int, target_start: int, hidden_size: int, setup: Setup):
        super().__init__()
        mesh = setup.mesh
        sharding = divide_table(vocabulary_size, target_start, hidden_size, mesh.tensor)
        rows = sum(size for _, size in sharding.pieces)
        self.weight = nn.Parameter(torch.empty(rows, hidden_size))
        if mesh.tensor.size > 1:
            shard(self.weight, sharding)

    def forward(self, batch: Batch) -> Lookup:
        """First layer: hands the table on beside the ids, since tokens and positions are looked up at once."""
        return *batch, self.weight

    def project(self, state: State) -> tuple[Tensor, Tensor]:
        """Last layer: hands the table on beside the hidden state, since only the loss knows which logits count."""
        return state[0], self.weight


class PositionEmbedding(nn.Module):
    """Learned positions: a table for the source, a table for the target. Adds their vectors to those of the tokens."""

    def __init__(self, config: ModelConfig, name: str, setup: Setup):
        """name: of the layer in the model."""
        super().__init__()
        self.name = name
        self.setup = setup
        self.dropout = config.dropout
        self.source = nn.Parameter(torch.empty(config.max_length, config.hidden_size))
        self.target = nn.Parameter(torch.empty(config.max_length, config.hidden_size))

    def forward(self, lookup: Lookup) -> State:
        """The vector of each token, plus that of its place, counted from the start of its segment."""
        tokens, positions, segments, table = lookup
        mesh, kernels = self.setup.mesh, self.setup.kernels
        passage = self.setup.begin_pass(self.name, self.training)
        places = own_rows(positions, mesh)
        draw = self.setup.draw_outside(passage, "sum", self.dropout, places[..., None])
        tables = (self.source, self.target)
        if mesh.tensor.size == 1:
            return kernels.embed(tokens, table, places, tables, draw), segments
        vectors = embed_parallel(tokens.transpose(0, 1), table, mesh).transpose(0, 1)
        return kernels.add_places(vectors, places, tables, draw), segments

    def embed_source(self, tokens: Tensor, table: Tensor) -> Tensor:
        """Of sentences that each begin their row: int64 [B, N] -> [B, N, W], without dropout."""
        return functional.embedding(tokens, table) + self.source[: tokens.shape[1]]
