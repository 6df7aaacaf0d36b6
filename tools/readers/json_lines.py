"""JSON lines -> documents: one record a line, its text in a field."""

import json
from collections.abc import Iterator

from hzlm.stored_json import parse_json
from hzlm.tools.readers.lines import LONGEST_RECORD, Place, mend, split_lines
from hzlm.tools.readers.text import part_text
from hzlm.tools.readers.troubles import Troubles

BROKEN_JSON = "line that is no JSON, left out; write one record a line"
NO_TEXT = "record without text in its text field, left out"
LONG_RECORD = "line of more than 256 MiB, left out"


def read_json_lines(blocks: Iterator[bytes], field: str, place: Place, troubles: Troubles) -> Iterator[str]:
    """The texts in `field` of the records, in order; lines that are no record with a text are noted."""
    number = 1
    cut = False
    for line, ended in split_lines(blocks, LONGEST_RECORD):
        if not ended and not cut:
            troubles.note(LONG_RECORD, place(number))
        elif ended and not cut and not line.isspace() and line:
            text = mend(line.decode("utf-8", "replace"), place, number, troubles)
            yield from _read_record(text, field, place, number, troubles)
        cut = not ended
        number += ended


def _read_record(line: str, field: str, place: Place, number: int, troubles: Troubles) -> Iterator[str]:
    try:
        value = parse_json(line)
    except ValueError as error:
        reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        troubles.note(BROKEN_JSON, f"{place(number)} ({reason})")
        return
    text = value.get(field) if isinstance(value, dict) else None
    if not isinstance(text, str) or not text or text.isspace():
        troubles.note(NO_TEXT, place(number))
        return
    if "\\" in line:
        # Null characters and halves of surrogate pairs may be written as \u escapes.
        text = mend(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), place, number, troubles)
    yield from part_text(text, place, number, troubles)
