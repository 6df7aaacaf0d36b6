"""A plain reading of ARPA files, and what they say of a sentence: nothing of it is shared with the code under test."""

from collections.abc import Iterable, Sequence

Arpa = dict[tuple[str, ...], tuple[float, float]]
"""Words of each n-gram -> log10 probability and log10 back-off weight."""


def read_arpa(lines: Iterable[str]) -> Arpa:
    """Every n-gram of an ARPA file."""
    found: Arpa = {}
    for line in lines:
        columns = line.rstrip("\n").split("\t")
        if len(columns) > 1:
            found[tuple(columns[1].split(" "))] = (float(columns[0]), float(columns[2]) if len(columns) > 2 else 0.0)
    return found


def log10_probability(arpa: Arpa, history: Sequence[str], word: str) -> float:
    """log10 p(word | history), by the format's definition of backing off."""
    context, weight = tuple(history), 0.0
    while (*context, word) not in arpa:
        weight += arpa.get(context, (0.0, 0.0))[1]
        context = context[1:]
    return weight + arpa[(*context, word)][0]
