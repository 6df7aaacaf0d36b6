"""Character n-gram models: counting, estimating, pruning, and what becomes of them on disk."""
