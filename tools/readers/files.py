"""The files to read, by their names: what they hold, and the pieces that big ones are read in."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hzlm.errors import UserError
from hzlm.tools.readers.troubles import Troubles

Format = Literal["text", "json", "parquet", "html", "warc"]

UNLISTED = "folder that cannot be listed"

_COMPRESSIONS = frozenset({".gz", ".xz", ".zst"})
_FORMATS: dict[str, Format] = {
    ".txt": "text",
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".html": "html",
    ".htm": "html",
    ".warc": "warc",
    ".wet": "warc",
}
# What can be read from any line on.
_CUT = frozenset({".txt", ".jsonl"})


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `end` of a file that is not compressed, or a whole file: 0 to its size."""

    path: Path
    start: int
    end: int


def find_files(inputs: Sequence[Path], troubles: Troubles) -> list[Path]:
    """The files named, and in place of a folder all files of a known format in it, sorted; hidden ones are left out.

    A file that is named twice is taken once. Subfolders that cannot be listed are noted.

    Raises:
        UserError: nothing is named, an input does not exist, or a folder holds no file of a known format.
    """
    if not inputs:
        raise UserError("no inputs; name at least one file or folder of text")
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(_files_in(path, troubles))
            if not found:
                known = ", ".join(_FORMATS)
                raise UserError(f"{path}: no file to read in this folder; it takes {known} (.gz, .xz, .zst may follow)")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return list(dict.fromkeys(files))


def source_name(path: Path) -> str:
    """The file's name without the endings that say how it is written: `news.txt.xz` and `news.warc.wet.gz` -> `news`.

    White space, which parts columns and lines, becomes blanks; bytes that are no UTF-8 become �.
    """
    plain = _without_compression(path)
    while plain.suffix in _FORMATS:
        plain = plain.with_suffix("")
    return " ".join(plain.name.split()).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def format_of(path: Path) -> Format:
    """What a file holds, by its name; text where the name does not say it."""
    return _FORMATS.get(_without_compression(path).suffix, "text")


def is_compressed(path: Path) -> bool:
    """Whether the file's name says that it is compressed."""
    return path.suffix in _COMPRESSIONS


def cut_pieces(files: Sequence[Path], piece_bytes: int) -> list[Piece]:
    """Cuts .txt and .jsonl files into pieces of `piece_bytes`; every other file, and a compressed one, is one piece.

    The pieces follow from names and sizes alone. A file that cannot be looked at is one piece, for reading to note.
    """
    pieces = []
    for path in files:
        try:
            size = path.stat().st_size
        except OSError:
            size = 0
        step = piece_bytes if path.suffix in _CUT else max(size, 1)
        pieces += [Piece(path, start, min(start + step, size)) for start in range(0, max(size, 1), step)]
    return pieces


def _files_in(folder: Path, troubles: Troubles) -> Iterator[Path]:
    def note(error: OSError) -> None:
        troubles.note(UNLISTED, f"{error.filename} ({error.strerror})")

    for parent, subfolders, names in os.walk(folder, onerror=note):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if _is_known(path) and not path.is_dir():
                yield path


def _is_known(path: Path) -> bool:
    plain = _without_compression(path)
    return plain.suffix in _FORMATS and (plain == path or plain.suffix != ".parquet")


def _without_compression(path: Path) -> Path:
    return path.with_suffix("") if is_compressed(path) else path
