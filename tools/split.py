"""Cleaned text -> the sentences or the clauses that become samples."""

import re
from collections.abc import Iterator
from typing import Literal

from hzlm.decode.sentences import CLOSING, split_sentences

Unit = Literal["sentence", "utterance", "clause"]
"""A sentence keeps its punctuation; an utterance is a sentence without it, as speech is heard; a clause is a run that
holds none."""

_PART = re.compile(rf"[^，,、：:—]*(?:[，,、：:—]+[{CLOSING}]*|$)")
# Punctuation inside a number or a Latin word parts nothing: 3.5, 1,000, 10:30, e-mail.
_CLAUSE = re.compile(r"(?:[^\W_]|[%％‰]|(?<=[0-9A-Za-z])[.:/'’-](?=[0-9A-Za-z])|(?<=[0-9]),(?=[0-9]))+")


def split_text(text: str, unit: Unit, max_length: int) -> Iterator[str]:
    """The units of a text.

    Sentences end where `hzlm.decode.sentences` says. One of more than `max_length` characters is cut behind inner
    punctuation (，,、：:—) into pieces as long as may be. Clauses are the runs of letters and digits between
    punctuation, symbols and white space; an utterance is all clauses of a sentence, or of such a piece, with nothing
    between them.

    Yields:
        units without white space around them; longer than `max_length` where nothing allows a cut.
    """
    if unit == "clause":
        yield from _CLAUSE.findall(text)
        return
    for sentence in _sentences(text, max_length):
        unit_text = sentence if unit == "sentence" else "".join(_CLAUSE.findall(sentence))
        if unit_text:
            yield unit_text


def _sentences(text: str, max_length: int) -> Iterator[str]:
    ended, going_on = split_sentences(text)
    for sentence in (*ended, going_on):
        sentence = sentence.strip()
        if len(sentence) > max_length:
            yield from _cut(sentence, max_length)
        elif sentence:
            yield sentence


def _cut(sentence: str, max_length: int) -> Iterator[str]:
    piece = ""
    for part in filter(None, _PART.findall(sentence)):
        if piece and len(piece) + len(part) > max_length:
            yield piece.strip()
            piece = ""
        piece += part
    yield piece.strip()
