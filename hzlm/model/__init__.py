"""The encoder-decoder: embeddings, attention, blocks, losses."""
