"""The files to read, by their names: what they hold, and the pieces that big ones are read in."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hzlm.errors import UserError
from hzlm.tools.readers.troubles import Troubles

Format = Literal["text", "json", "parquet", "html", "warc"]

UNLISTED = "folder that cannot be listed"
REPEATED = "folder that links lead to a second time, read once"
NO_FILE = "neither file nor folder, left out"
UNKNOWN_FORMAT = "file of unknown format, left out"

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


def find_files(inputs: Sequence[Path], troubles: Troubles, left_out: Sequence[Path] = ()) -> list[Path]:
    """The files named, and in place of a folder all files of a known format in it, sorted; hidden ones are left out.

    A file that is met twice, by whatever links and names, is taken once, by the first. Links to folders are followed.
    What a folder holds that cannot be listed, or is no file of a known format, is noted; a link that leads nowhere, and
    what else cannot be looked at, is taken, for reading to note.

    Args:
        inputs: files and folders.
        troubles: where it is noted what is not read.
        left_out: what the program writes itself: files and folders that are not read where they lie in an input.

    Raises:
        UserError: nothing is named, an input does not exist, cannot be looked at, is neither file nor folder, or is
            left out, or a folder holds no file of a known format.
    """
    if not inputs:
        raise UserError("no inputs; name at least one file or folder of text")
    barred = tuple(os.path.join(os.path.realpath(path), "") for path in left_out)
    files: dict[str, Path] = {}
    others: dict[str, tuple[str, Path]] = {}
    for path in inputs:
        real = os.path.realpath(path)
        if _lies_in(real, barred):
            raise UserError(f"{path}: this is a part of the output; choose another input or output")
        found: list[tuple[Path, str, str | None]] = [(path, real, None)]
        if _is_folder(path):
            found = [(file, real, _fault_of(file)) for file, real in sorted(_paths_in(path, barred, troubles))]
            if all(fault for _, _, fault in found):
                known = ", ".join(_FORMATS)
                raise UserError(f"{path}: no file to read in this folder; it takes {known} (.gz, .xz, .zst may follow)")
        for file, real, fault in found:
            if fault is None:
                files.setdefault(real, file)
            else:
                others.setdefault(real, (fault, file))
    for real, (fault, path) in others.items():
        if real not in files:
            troubles.note(fault, str(path))
    return list(files.values())


def source_name(path: Path) -> str:
    """The file's name without the endings that say how it is written: `news.txt.xz` and `news.warc.wet.gz` -> `news`.

    White space, which parts columns and lines, becomes blanks; bytes that are no UTF-8 become �.
    """
    plain = _without_compression(path)
    while _ending(plain) in _FORMATS:
        plain = plain.with_suffix("")
    return " ".join(plain.name.split()).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def format_of(path: Path) -> Format:
    """What a file holds, by its name; text where the name does not say it."""
    return _FORMATS.get(_ending(_without_compression(path)), "text")


def is_compressed(path: Path) -> bool:
    """Whether the file's name says that it is compressed."""
    return _ending(path) in _COMPRESSIONS


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
        step = piece_bytes if _ending(path) in _CUT else max(size, 1)
        pieces += [Piece(path, start, min(start + step, size)) for start in range(0, max(size, 1), step)]
    return pieces


def _is_folder(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; name a file or folder that can") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UserError(f"{path}: neither file nor folder; write what it gives to a file, and name that")
    return stat.S_ISDIR(mode)


def _paths_in(folder: Path, barred: tuple[str, ...], troubles: Troubles) -> Iterator[tuple[Path, str]]:
    """All that is no folder in a folder and those below it, each with its resolved path."""
    visited: set[tuple[int, int]] = set()

    def note(error: OSError) -> None:
        troubles.note(UNLISTED, f"{error.filename} ({error.strerror})")

    def is_new(path: Path) -> bool:
        try:
            status = path.stat()
        except OSError:
            # Listing it will note what is wrong.
            return True
        identity = status.st_dev, status.st_ino
        if identity in visited:
            troubles.note(REPEATED, str(path))
            return False
        visited.add(identity)
        return True

    is_new(folder)
    for parent, subfolders, names in os.walk(folder, onerror=note, followlinks=True):
        below = [path for path in _visible(parent, subfolders) if not _lies_in(os.path.realpath(path), barred)]
        # Links come last: a folder beside them goes by its own name.
        subfolders[:] = [
            path.name for path in sorted(below, key=lambda path: (path.is_symlink(), path)) if is_new(path)
        ]
        real_parent = os.path.realpath(parent)
        for path in _visible(parent, names):
            real = os.path.realpath(path) if path.is_symlink() else os.path.join(real_parent, path.name)
            if not _lies_in(real, barred):
                yield path, real


def _visible(parent: str, names: Sequence[str]) -> Iterator[Path]:
    return (Path(parent, name) for name in names if not name.startswith("."))


def _lies_in(real: str, barred: tuple[str, ...]) -> bool:
    return os.path.join(real, "").startswith(barred)


def _fault_of(path: Path) -> str | None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if not stat.S_ISREG(mode):
        return NO_FILE
    return None if _is_known(path) else UNKNOWN_FORMAT


def _is_known(path: Path) -> bool:
    plain = _without_compression(path)
    return _ending(plain) in _FORMATS and (plain == path or _ending(plain) != ".parquet")


def _ending(path: Path) -> str:
    return path.suffix.lower()


def _without_compression(path: Path) -> Path:
    return path.with_suffix("") if is_compressed(path) else path
