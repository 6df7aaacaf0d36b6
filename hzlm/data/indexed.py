"""Sequences of numbers on disk in Megatron's MMIDIDX layout, version 1: `.bin` holds the numbers, `.idx` says where.

`.idx`, little-endian: magic (9 bytes), version u64, dtype code u8, sequence count S u64, document count D u64, then
lengths int32 [S], byte offsets into the `.bin` int64 [S], and int64 [D] the sequence at which each document starts,
closed by S itself.
"""

import struct
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hzlm.errors import UserError
from hzlm.stored_files import force_to_disk

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
DTYPE_CODES = {"u1": 1, "i1": 2, "i2": 3, "i4": 4, "i8": 5, "f8": 6, "f4": 7, "u2": 8}
"""The layout's code of each dtype, by numpy's name."""

_HEADER = struct.Struct("<9sQBQQ")

Array = npt.NDArray[Any]


def bin_path(prefix: Path) -> Path:
    """The file that holds the numbers."""
    return prefix.with_name(prefix.name + ".bin")


def idx_path(prefix: Path) -> Path:
    """The file that holds the index."""
    return prefix.with_name(prefix.name + ".idx")


class IndexedWriter:
    """Writes sequences to `PREFIX.bin` and `PREFIX.idx`, which appear when `finish` has made them whole.

    As a context manager it removes its temporary files when the block fails before `finish`.

    Args:
        prefix: path of both files without their endings.
        dtype: of the numbers; one of `DTYPE_CODES`.
    """

    def __init__(self, prefix: Path, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._code = DTYPE_CODES[self.dtype.str[1:]]
        self._paths = {path: path.with_name(path.name + ".partial") for path in (bin_path(prefix), idx_path(prefix))}
        self._bin_temporary, self._idx_temporary = self._paths.values()
        self._file = self._bin_temporary.open("wb")
        self._lengths = array("i")
        self._documents = array("q", [0])

    def add(self, sequence: Sequence[int] | Array) -> None:
        """Appends one sequence [N]. Raises `OverflowError` where the dtype cannot hold a number exactly."""
        numbers = np.asarray(sequence)
        stored = numbers.astype(self.dtype, copy=False)
        if numbers.ndim != 1:
            raise ValueError(f"not a sequence, but an array of {numbers.ndim} dimensions")
        if stored is not numbers and not (stored == numbers).all():
            raise OverflowError(f"numbers that do not fit {self.dtype}: {numbers}")
        self._file.write(stored.tobytes())
        self._lengths.append(len(stored))

    def end_document(self) -> None:
        """The sequences added since the last call are one document; without any, nothing happens."""
        if len(self._lengths) > self._documents[-1]:
            self._documents.append(len(self._lengths))

    def finish(self) -> None:
        """Ends the last document, writes the index and gives both files their names."""
        self.end_document()
        self._file.close()
        lengths = np.array(self._lengths, "<i4")
        ends = np.cumsum(lengths, dtype="<i8") * self.dtype.itemsize
        header = _HEADER.pack(MAGIC, VERSION, self._code, len(lengths), len(self._documents))
        offsets = np.concatenate([np.zeros(1, "<i8"), ends])[: len(lengths)]
        index = (lengths, offsets.astype("<i8"), np.array(self._documents, "<i8"))
        self._idx_temporary.write_bytes(header + b"".join(part.tobytes() for part in index))
        for path, temporary in self._paths.items():
            force_to_disk(temporary)
            temporary.rename(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        for temporary in self._paths.values():
            temporary.unlink(missing_ok=True)


class IndexedReader:
    """The sequences of `PREFIX.bin` and `PREFIX.idx`, memory-mapped and read-only.

    Raises:
        UserError: a file is missing or not what the layout asks for; the text names it.
    """

    lengths: npt.NDArray[np.int32]
    """int32 [S], numbers in each sequence."""
    documents: npt.NDArray[np.int64]
    """int64 [D], the first sequence of each document, and S at the end."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        index = _map(idx_path(prefix))
        if len(index) < _HEADER.size or bytes(index[: len(MAGIC)]) != MAGIC:
            raise self._damage("is no MMIDIDX index")
        _, version, code, sequences, documents = _HEADER.unpack(bytes(index[: _HEADER.size]))
        names = {code: name for name, code in DTYPE_CODES.items()}
        if version != VERSION or code not in names:
            raise self._damage(f"has version {version} and dtype code {code}, which this program cannot read")
        self.dtype = np.dtype("<" + names[code])
        expected = _HEADER.size + 12 * sequences + 8 * documents
        # A byte a sequence may follow (Megatron's modes), which hzlm does not use.
        if len(index) not in (expected, expected + sequences):
            raise self._damage(f"holds {len(index)} bytes instead of {expected}")
        # Copies, for in the file they are not aligned to their size.
        body = bytes(index[_HEADER.size : expected])
        self.lengths = np.frombuffer(body, "<i4", sequences)
        self._offsets = np.frombuffer(body, "<i8", sequences, 4 * sequences)
        self.documents = np.frombuffer(body, "<i8", documents, 12 * sequences)
        self._check_index()
        self._bytes = _map(bin_path(prefix))
        size = int(self.lengths.sum(dtype=np.int64)) * self.dtype.itemsize
        if len(self._bytes) != size:
            raise UserError(f"{bin_path(prefix)}: holds {len(self._bytes)} bytes instead of {size}; write it again")

    @property
    def numbers(self) -> Array:
        """The numbers of all sequences, one after the other, as a read-only view of the file."""
        return self._bytes.view(self.dtype)

    def __len__(self) -> int:
        """How many sequences there are."""
        return len(self.lengths)

    def __getitem__(self, index: int) -> Array:
        """Sequence `index` as a read-only view [N] of the file."""
        start = int(self._offsets[index])
        end = start + int(self.lengths[index]) * self.dtype.itemsize
        return self._bytes[start:end].view(self.dtype)

    def _check_index(self) -> None:
        if (self.lengths < 0).any():
            raise self._damage("holds a negative length")
        ends = np.cumsum(self.lengths, dtype=np.int64) * self.dtype.itemsize
        if not np.array_equal(self._offsets, np.concatenate([np.zeros(1, np.int64), ends])[:-1]):
            raise self._damage("holds offsets that do not follow from its lengths")
        documents = self.documents
        if not len(documents) or documents[0] != 0 or documents[-1] != len(self) or (np.diff(documents) < 0).any():
            raise self._damage("holds document borders that do not cover its sequences in order")

    def _damage(self, what: str) -> UserError:
        return UserError(f"{idx_path(self.prefix)}: {what}; write it again")


def _map(path: Path) -> npt.NDArray[np.uint8]:
    """The file's bytes, memory-mapped; an empty file, which cannot be mapped, gives an empty array."""
    try:
        if path.stat().st_size == 0:
            return np.empty(0, np.uint8)
        return np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise UserError(f"{path}: cannot read this file: {error.strerror}") from error
