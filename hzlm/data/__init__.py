"""Datasets on disk, and the training samples made of them."""
