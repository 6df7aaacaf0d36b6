"""Texts out of files: UTF-8 text or JSON lines, plain or compressed with gzip, xz or zstandard."""

import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import zstandard

from hzlm.errors import UserError
from hzlm.stored_json import parse_json

TEXT_SUFFIXES = frozenset({".txt"})
JSON_SUFFIXES = frozenset({".jsonl", ".json"})

_BLOCK_BYTES = 1 << 16
# Compressed zeros grow by up to 32,768 times in one call: 128 MB.
_COMPRESSED_BYTES = 1 << 12
_LONGEST_LINE = 1 << 28
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


def find_files(inputs: Sequence[Path]) -> list[Path]:
    """The files named, and in place of a folder all .txt, .jsonl and .json files in it (also compressed), sorted.

    A file that is named twice is taken once.

    Raises:
        UserError: nothing is named, an input does not exist, or a folder holds no such file.
    """
    if not inputs:
        raise UserError("no inputs; name at least one file or folder of text")
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(
                child
                for child in path.rglob("*")
                if _without_compression(child).suffix in TEXT_SUFFIXES | JSON_SUFFIXES
                and not any(part.startswith(".") for part in child.relative_to(path).parts)
                and child.is_file()
            )
            if not found:
                raise UserError(f"{path}: no .txt or .jsonl file in this folder (.gz, .xz, .zst may follow)")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return list(dict.fromkeys(files))


def source_name(path: Path) -> str:
    """The file's name without the endings that say how it is written: `news.txt.xz` -> `news`.

    White space, which parts columns and lines, becomes blanks; bytes that are no UTF-8 become �.
    """
    plain = _without_compression(path)
    name = plain.stem if plain.suffix in TEXT_SUFFIXES | JSON_SUFFIXES else plain.name
    return " ".join(name.split()).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_texts(path: Path, advance: Callable[[int], None]) -> Iterator[str]:
    """The texts of one file, in order: its lines, or the field `text` of each line of JSON (`.jsonl`, `.json`).

    Args:
        path: the file; `.gz`, `.xz` and `.zst` are decompressed.
        advance: called with the number of bytes that were just taken from the disk.

    Raises:
        UserError: the file cannot be read, is damaged or empty, or holds bytes that are no text or lines that are no
            JSON; the text names the file, the line and the byte.
    """
    is_json = _without_compression(path).suffix in JSON_SUFFIXES
    empty = True
    offset = 0
    for number, line in enumerate(_lines(_blocks(path, advance), path), start=1):
        text = _decode(line, path, number, offset)
        offset += len(line) + 1
        if text and not text.isspace():
            text = _parse_json(text, f"{path}, line {number}") if is_json else text
            empty = empty and not text.strip()
            yield text
    if empty:
        raise UserError(f"{path}: this file holds no text; remove it from the inputs")


def _without_compression(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in _DECOMPRESSORS else path


def _blocks(path: Path, advance: Callable[[int], None]) -> Iterator[bytes]:
    """The file's content, decompressed, block by block."""
    make = _DECOMPRESSORS.get(path.suffix)
    decompressor: _Decompressor | None = None
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES if make is None else _COMPRESSED_BYTES):
                advance(len(block))
                if make is None:
                    yield block
                    continue
                while block:
                    if decompressor is not None and decompressor.eof:
                        # Zeros may fill the space behind a compressed stream.
                        block = block.lstrip(b"\x00")
                        if not block:
                            break
                        decompressor = None
                    decompressor = decompressor or make()
                    content = decompressor.decompress(block)
                    yield from (content[start : start + _BLOCK_BYTES] for start in range(0, len(content), _BLOCK_BYTES))
                    block = decompressor.unused_data
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise UserError(f"{path}: this {path.suffix} file is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot read this file: {error.strerror}") from error
    if decompressor is not None and not decompressor.eof:
        raise UserError(f"{path}: this {path.suffix} file is cut off; fetch it again")


def _lines(blocks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """The lines of the content, without their ends; what follows the last end is a line too."""
    line: list[bytes] = []
    size = 0
    for block in blocks:
        first, *others = block.split(b"\n")
        line.append(first)
        size += len(first)
        if others:
            yield b"".join(line)
            yield from others[:-1]
            line = others[-1:]
            size = len(line[0])
        if size > _LONGEST_LINE:
            raise UserError(f"{path}: a line of more than {_LONGEST_LINE >> 20} MiB is no text; break it into lines")
    yield b"".join(line)


def _decode(line: bytes, path: Path, number: int, offset: int) -> str:
    place = line.find(b"\x00")
    if place < 0:
        try:
            return line.decode().removeprefix("\ufeff" if number == 1 else "")
        except UnicodeDecodeError as error:
            place = error.start
    what = f"{path}, line {number}: byte {offset + place} (0x{line[place]:02x}) is no UTF-8 text"
    raise UserError(f"{what}; convert the file to UTF-8")


def _parse_json(line: str, where: str) -> str:
    try:
        value = parse_json(line)
    except ValueError as error:
        reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise UserError(f"{where}: no JSON ({reason}); write one object a line") from error
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise UserError(f'{where}: no text here; write one object a line, as in {{"text": "..."}}')
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: half a surrogate pair stands in the text; write UTF-8, no \\u escapes") from error
    return text
