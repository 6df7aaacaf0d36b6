"""JSON from files that a disk or a person may have damaged."""

import json
from pathlib import Path
from typing import Any

from hzlm.errors import UserError


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError`, in one line, for all that is none or that Python cannot hold."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def load_json(path: Path, remedy: str) -> Any:
    """The value in a UTF-8 file of JSON.

    Args:
        path: the file.
        remedy: what to do about a file that is missing or damaged, as the message ends with it.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        return parse_json(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read this file: {error.strerror}; {remedy}") from error
    except ValueError as error:
        raise UserError(f"{path}: this file is damaged: no JSON ({error}); {remedy}") from error
