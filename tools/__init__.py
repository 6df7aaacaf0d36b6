"""From corpora to indexed datasets, and the demonstration."""
