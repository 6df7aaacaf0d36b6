"""Parquet tables -> documents: one row each, its text in a column."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hzlm.tools.readers.decompress import UNREADABLE
from hzlm.tools.readers.json_lines import NO_TEXT
from hzlm.tools.readers.lines import Place, mend
from hzlm.tools.readers.text import part_text
from hzlm.tools.readers.troubles import Troubles

if TYPE_CHECKING:
    import pyarrow

DAMAGED = "damaged parquet file, read up to the damage; fetch it again"
NO_COLUMN = "parquet file without a column of text of this name, left out"

# A row group may be as large as its file: without `pre_buffer` it is read page by page.
_ROWS = 256
_BUFFER_BYTES = 1 << 20


def read_parquet(path: Path, column: str, place: Place, troubles: Troubles) -> Iterator[str]:
    """The texts in `column`, row after row; rows without text are noted."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(
            path, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True
        ) as file:
            schema = file.schema_arrow
            if column not in schema.names or not _is_text(schema.field(column).type):
                troubles.note(NO_COLUMN, f"{path} (column {column!r})")
                return
            for batch in file.iter_batches(_ROWS, columns=[column], use_threads=False):
                for content in batch.column(0).cast(pyarrow.large_binary()).to_pylist():
                    number += 1
                    text = "" if content is None else content.decode("utf-8", "replace")
                    if not text or text.isspace():
                        troubles.note(NO_TEXT, place(number))
                        continue
                    yield from part_text(mend(text, place, number, troubles), place, number, troubles)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        # Its `strerror` repeats the path.
        known = isinstance(error, OSError) and error.errno and os.strerror(error.errno)
        reason = known or str(error).partition("\n")[0]
        troubles.note(UNREADABLE if known else DAMAGED, f"{path} ({reason})")


def _is_text(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    return any(is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view))
