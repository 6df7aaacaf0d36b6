"""Ablations: the same training with one thing changed at a time, measured on the same sentences."""
