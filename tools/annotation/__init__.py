"""Sentences -> words and readings."""
