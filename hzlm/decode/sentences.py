"""Where sentences end in plain text: behind 。！？!?；;… and what closes there, and at line ends.

So `hzlm prepare` cuts the text that models are trained with.
"""

import re
from itertools import pairwise

CLOSING = "”’」』）》】〕\"')\\]"
"""What closes behind punctuation, to be put into a regular expression's `[]`."""

_END = re.compile(rf"[。！？!?；;…]+[{CLOSING}]*|\n")


def sentence_ends(text: str) -> list[int]:
    """The places behind which sentences end, ascending, as numbers of characters before them."""
    return [end.end() for end in _END.finditer(text)]


def split_sentences(text: str) -> tuple[list[str], str]:
    """The ended sentences of a text, and what it has of one that goes on ("" where none does); joined, the text."""
    bounds = [0, *sentence_ends(text)]
    return [text[start:end] for start, end in pairwise(bounds)], text[bounds[-1] :]
