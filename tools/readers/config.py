"""How inputs are read."""

from typing import Annotated, Literal

from pydantic import Field

from hzlm.settings import Section


class InputConfig(Section):
    """How the documents of the inputs are told apart."""

    document: Literal["auto", "blank-line", "line"] = "auto"
    """What ends a document in a text file: a blank line, or each line; auto: a blank line if the first MiB has some."""
    text_field: Annotated[str, Field(min_length=1)] = "text"
    """Field of a JSON record, or column of a parquet table, that holds the text."""
