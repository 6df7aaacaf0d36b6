"""Texts that come twice, whole or nearly: their keys, and the search for keys that occurred before."""
