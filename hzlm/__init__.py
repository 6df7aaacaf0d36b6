"""Restores Chinese sentences: trains and runs models that turn pinyin into hanzi."""

__version__ = "0.1.0"
