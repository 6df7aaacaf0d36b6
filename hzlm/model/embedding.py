"""Embeddings: one token table for sources and targets, one position table for each."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hzlm.model.state import Batch, Embedded, State


class TokenEmbedding(nn.Module):
    """The token table. First layer of the model and, tied, its output projection."""

    def __init__(self, vocabulary_size: int, hidden_size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, hidden_size))

    def embed(self, tokens: Tensor) -> Tensor:
        """int64 [...] -> [..., hidden size]; no scale, no LayerNorm."""
        return functional.embedding(tokens, self.weight)

    def forward(self, batch: Batch) -> Embedded:
        """First layer: token ids -> their vectors."""
        tokens, positions, segments = batch
        return self.embed(tokens), positions, segments

    def project(self, state: State) -> tuple[Tensor, Tensor]:
        """Last layer: hands the table on beside the hidden state, since only the loss knows which logits count."""
        return state[0], self.weight


class PositionEmbedding(nn.Module):
    """Learned positions: a table for the source, a table for the target."""

    def __init__(self, max_length: int, hidden_size: int, dropout: float):
        super().__init__()
        self.source = nn.Parameter(torch.empty(max_length, hidden_size))
        self.target = nn.Parameter(torch.empty(max_length, hidden_size))
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Embedded) -> State:
        """Adds the vector of each place, counted from the start of its segment."""
        tokens, positions, segments = embedded
        places = torch.stack(
            [functional.embedding(positions, self.source), functional.embedding(positions, self.target)]
        )
        return self.dropout(tokens + places), segments
