"""The content of a file, decompressed, block by block; damage ends it and is noted."""

import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

import zstandard

from hzlm.tools.readers.files import Piece, is_compressed
from hzlm.tools.readers.troubles import Troubles

UNREADABLE = "file that cannot be read"
DAMAGED = "damaged compressed file, read up to the damage; fetch it again"
CUT_OFF = "compressed file that is cut off, read up to there; fetch it again"

_BLOCK_BYTES = 1 << 18
# Compressed zeros grow by up to 32,768 times in one call: 128 MB.
_COMPRESSED_BYTES = 1 << 12
_XZ_MEMORY = 1 << 28


class _Decompressor(Protocol):
    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(wbits=31),
    ".xz": lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY),
    ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}


def read_blocks(piece: Piece, troubles: Troubles) -> Generator[bytes, None, None]:
    """The content of a piece in blocks of at most 256 KiB.

    Files named .gz, .xz and .zst are decompressed; they may hold several compressed streams one after the other. What
    lies before a damaged part is read, but for what up to 4 KiB of the compressed file hold.
    """
    try:
        if is_compressed(piece.path):
            yield from _decompress(piece.path, troubles)
        else:
            yield from _read(piece)
    except OSError as error:
        troubles.note(UNREADABLE, f"{piece.path} ({error.strerror})")


def _read(piece: Piece) -> Iterator[bytes]:
    with piece.path.open("rb") as file:
        file.seek(piece.start)
        while block := file.read(min(_BLOCK_BYTES, piece.end - file.tell())):
            yield block


def _decompress(path: Path, troubles: Troubles) -> Iterator[bytes]:
    make = _DECOMPRESSORS[path.suffix.lower()]
    decompressor: _Decompressor | None = None
    with path.open("rb") as file:
        while block := file.read(_COMPRESSED_BYTES):
            while block:
                if decompressor is not None and decompressor.eof:
                    # Zeros may fill the space behind a compressed stream.
                    block = block.lstrip(b"\x00")
                    if not block:
                        break
                    decompressor = None
                decompressor = decompressor or make()
                try:
                    content = decompressor.decompress(block)
                except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
                    troubles.note(DAMAGED, f"{path} ({error})")
                    return
                yield from (content[start : start + _BLOCK_BYTES] for start in range(0, len(content), _BLOCK_BYTES))
                block = decompressor.unused_data
    if decompressor is not None and not decompressor.eof:
        troubles.note(CUT_OFF, str(path))
