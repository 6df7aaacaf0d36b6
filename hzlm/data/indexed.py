"""Sequences of numbers on disk, in documents, in Megatron's layout (`hzlm.data.indexed_layout`)."""

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from hzlm.data.indexed_layout import (
    BLOCK,
    BORDER,
    DTYPE_CODES,
    HEADER,
    LENGTH,
    LONGEST,
    MAGIC,
    VERSION,
    bin_path,
    idx_path,
    place_sequences,
)
from hzlm.errors import UserError
from hzlm.stored_files import force_to_disk

_BLOCK_BYTES = 1 << 21

Array = npt.NDArray[Any]


class IndexedReader:
    """The sequences of `PREFIX.bin` and `PREFIX.idx`, memory-mapped and read-only.

    Opening looks at the header, the sizes and both ends of the index, however large it is; `verify` at all of it.

    Raises:
        UserError: a file is missing or not what the layout asks for; the text names it.
    """

    lengths: npt.NDArray[np.int32]
    """int32 [S], numbers in each sequence; a view of the file, not aligned to its size."""
    offsets: npt.NDArray[np.int64]
    """int64 [S], the byte of the .bin at which each sequence begins; a view as `lengths`."""
    documents: npt.NDArray[np.int64]
    """int64 [D], the first sequence of each document, and S at the end; a view as `lengths`."""
    numbers: Array
    """The numbers of all sequences, one after the other, as a read-only view of the file."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self._maps: list[mmap.mmap] = []
        index = self._map(idx_path(prefix))
        if len(index) < HEADER.size or index[: len(MAGIC)].tobytes() != MAGIC:
            raise self._damage("is no MMIDIDX index")
        _, version, code, sequences, documents = HEADER.unpack(index[: HEADER.size].tobytes())
        names = {code: name for name, code in DTYPE_CODES.items()}
        if version != VERSION or code not in names:
            raise self._damage(f"has version {version} and dtype code {code}, which this program cannot read")
        self.dtype = np.dtype("<" + names[code])
        sizes = [HEADER.size, 4 * sequences, 8 * sequences, 8 * documents]
        borders = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        if len(index) not in (borders[-1], borders[-1] + sequences):
            raise self._damage(f"holds {len(index)} bytes instead of {borders[-1]}")
        parts = (index[start:end] for start, end in pairwise(borders))
        self.lengths, self.offsets, self.documents = (
            part.view(t) for part, t in zip(parts, ("<i4", "<i8", "<i8"), strict=True)
        )
        end = self._check_ends()
        numbers = self._map(bin_path(prefix))
        if len(numbers) != end:
            raise UserError(f"{bin_path(prefix)}: holds {len(numbers)} bytes instead of {end}; write it again")
        self.numbers = numbers.view(self.dtype)

    def __len__(self) -> int:
        """How many sequences there are."""
        return len(self.lengths)

    def __getitem__(self, index: int) -> Array:
        """Sequence `index` as a read-only view [N] of the file. Raises `UserError` where the index points outside."""
        start = self.offsets.item(index) // self.dtype.itemsize
        length = self.lengths.item(index)
        found = self.numbers[start : start + length]
        if start < 0 or len(found) != length:
            raise self._damage(f"places sequence {index} outside the .bin")
        return found

    def place(self, index: int) -> int:
        """How many numbers lie before sequence `index`, which may be S."""
        return len(self.numbers) if index == len(self) else self.offsets.item(index) // self.dtype.itemsize

    def verify(self) -> None:
        """Looks at the whole index, block by block. Raises `UserError` where it contradicts itself."""
        end = 0
        for start in range(0, len(self), BLOCK):
            lengths = self.lengths[start : start + BLOCK].astype(np.int64)
            if lengths.min() < 0:
                raise self._damage("holds a negative length")
            offsets, end = place_sequences(lengths, end, self.dtype.itemsize)
            if not np.array_equal(offsets, self.offsets[start : start + BLOCK]):
                raise self._damage("holds offsets that do not follow from its lengths")
            self.release()
        for start in range(0, len(self.documents), BLOCK):
            if (np.diff(self.documents[start : start + BLOCK + 1]) < 0).any():
                raise self._damage("holds document borders that are not in order")
            self.release()

    def release(self) -> None:
        """Gives back the memory of what was read so far; it is read again where it is needed."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)

    def _check_ends(self) -> int:
        """The size of the `.bin` in bytes."""
        documents = self.documents
        if not len(documents) or documents[0] != 0 or documents[-1] != len(self):
            raise self._damage("holds document borders that do not cover its sequences")
        if not len(self):
            return 0
        if self.offsets[0] != 0 or self.lengths[-1] < 0:
            raise self._damage("holds a negative length, or offsets that do not begin at 0")
        return self.offsets.item(-1) + self.lengths.item(-1) * self.dtype.itemsize

    def _map(self, path: Path) -> npt.NDArray[np.uint8]:
        """The file's bytes, memory-mapped; an empty file, which cannot be mapped, gives an empty array."""
        try:
            with path.open("rb") as file:
                if path.stat().st_size == 0:
                    return np.empty(0, np.uint8)
                self._maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise UserError(f"{path}: cannot read this file: {error.strerror}") from error
        return np.frombuffer(self._maps[-1], np.uint8)

    def _damage(self, what: str) -> UserError:
        return UserError(f"{idx_path(self.prefix)}: {what}; write it again")


class IndexedWriter:
    """Writes sequences to `PREFIX.bin` and `PREFIX.idx`, which appear when `finish` has made them whole.

    The index waits in files without a name, so that memory does not grow with the number of sequences. As a context
    manager it removes its temporary files when the block fails before `finish`.

    Args:
        prefix: path of both files without their endings.
        dtype: of the numbers; one of `DTYPE_CODES`.
    """

    def __init__(self, prefix: Path, dtype: npt.DTypeLike) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._code = DTYPE_CODES[self.dtype.str[1:]]
        self._paths = {path: path.with_name(path.name + ".partial") for path in (bin_path(prefix), idx_path(prefix))}
        self._bin_temporary, self._idx_temporary = self._paths.values()
        with ExitStack() as stack:
            self._file = stack.enter_context(self._bin_temporary.open("wb"))
            self._lengths = stack.enter_context(tempfile.TemporaryFile(dir=prefix.parent))
            self._documents = stack.enter_context(tempfile.TemporaryFile(dir=prefix.parent))
            self._open = stack.pop_all()
        self._sequences = self._last_border = 0
        self._documents.write(BORDER.pack(0))

    def add(self, sequence: Sequence[int] | Array) -> None:
        """Appends one sequence [N]. Raises `OverflowError` where the dtype cannot hold a number exactly."""
        stored = self._convert(sequence)
        if len(stored) > LONGEST:
            raise OverflowError(f"a sequence of {len(stored)} numbers, but {LONGEST} is the most")
        self._file.write(stored.data)
        self._lengths.write(LENGTH.pack(len(stored)))
        self._sequences += 1

    def add_many(self, numbers: Array, lengths: Array, ends: Sequence[int] | Array = ()) -> None:
        """Appends many sequences at once.

        Args:
            numbers: [total], of all of them.
            lengths: int [S], which sum to `total`.
            ends: int [E], ascending, 0 to S: a document ends after so many of these sequences.

        Raises:
            OverflowError: the dtype cannot hold a number exactly, or a sequence is too long.
            ValueError: the lengths are not those of the numbers, or the ends not of these sequences.
        """
        lengths, borders = np.asarray(lengths), np.asarray(ends, np.int64)
        if lengths.min(initial=0) < 0 or lengths.sum(dtype=np.int64) != len(numbers):
            raise ValueError(f"lengths that do not sum to {len(numbers)}, which is how many numbers there are")
        if lengths.max(initial=0) > LONGEST:
            raise OverflowError(f"a sequence of {lengths.max()} numbers, but {LONGEST} is the most")
        if (np.diff(borders, prepend=0, append=len(lengths)) < 0).any():
            raise ValueError(f"ends of documents that do not ascend from 0 to {len(lengths)}")
        self._file.write(self._convert(numbers).data)
        self._lengths.write(lengths.astype("<i4").tobytes())
        borders = borders + self._sequences
        self._add_borders(borders[np.diff(borders, prepend=self._last_border) > 0])
        self._sequences += len(lengths)

    def append(self, reader: IndexedReader, start: int = 0, end: int | None = None) -> None:
        """Appends the documents `start` to `end` of a reader (all of them), as documents of their own.

        Raises `UserError` where its numbers are of another dtype.
        """
        if reader.dtype != self.dtype:
            raise UserError(f"{idx_path(reader.prefix)}: holds {reader.dtype}, which cannot follow {self.dtype}")
        self.end_document()
        end = len(reader.documents) - 1 if end is None else end
        first, last = reader.documents.item(start), reader.documents.item(end)
        with bin_path(reader.prefix).open("rb") as file:
            file.seek(reader.place(first) * self.dtype.itemsize)
            for block in _read_blocks(file, (reader.place(last) - reader.place(first)) * self.dtype.itemsize):
                self._file.write(block)
        for at in range(first, last, BLOCK):
            self._lengths.write(reader.lengths[at : min(at + BLOCK, last)].tobytes())
            reader.release()
        for at in range(start + 1, end + 1, BLOCK):
            self._add_borders(reader.documents[at : min(at + BLOCK, end + 1)] + (self._sequences - first))
        self._sequences += last - first
        reader.release()

    def end_document(self) -> None:
        """The sequences added since the last call are one document; without any, nothing happens."""
        if self._sequences > self._last_border:
            self._documents.write(BORDER.pack(self._sequences))
            self._last_border = self._sequences

    def finish(self) -> None:
        """Ends the last document, writes the index and gives both files their names."""
        self.end_document()
        self._file.close()
        with self._idx_temporary.open("wb") as file:
            borders = self._documents.tell() // BORDER.size
            file.write(HEADER.pack(MAGIC, VERSION, self._code, self._sequences, borders))
            for block in _spooled(self._lengths):
                file.write(block)
            end = 0
            for block in _spooled(self._lengths):
                offsets, end = place_sequences(np.frombuffer(block, "<i4"), end, self.dtype.itemsize)
                file.write(offsets.astype("<i8", copy=False).data)
            for block in _spooled(self._documents):
                file.write(block)
        self._open.close()
        for path, temporary in self._paths.items():
            force_to_disk(temporary)
            temporary.rename(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        for temporary in self._paths.values():
            temporary.unlink(missing_ok=True)

    def _convert(self, sequence: Sequence[int] | Array) -> Array:
        numbers = np.asarray(sequence)
        stored = np.ascontiguousarray(numbers, self.dtype)
        if numbers.ndim != 1:
            raise ValueError(f"not a sequence, but an array of {numbers.ndim} dimensions")
        if stored.dtype != numbers.dtype and not (stored == numbers).all():
            raise OverflowError(f"numbers that do not fit {self.dtype}: {numbers}")
        return stored

    def _add_borders(self, borders: npt.NDArray[np.int64]) -> None:
        if len(borders):
            self._documents.write(borders.astype("<i8", copy=False).tobytes())
            self._last_border = borders.item(-1)


def _spooled(file: IO[bytes]) -> Iterator[bytes]:
    size = file.seek(0, 2)
    file.seek(0)
    return _read_blocks(file, size)


def _read_blocks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """The next `size` bytes."""
    while size > 0:
        block = file.read(min(size, _BLOCK_BYTES))
        if not block:
            raise OSError("a file became shorter while it was read")
        yield block
        size -= len(block)
