"""Datasets that are there already: looked at, checked, merged, split and exported."""
