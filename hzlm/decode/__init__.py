"""Decoding: constrained beam search, and the Converter that people import."""
