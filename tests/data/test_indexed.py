import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import answer_of, damaged
from hzlm.data.indexed import IndexedReader, IndexedWriter
from hzlm.errors import UserError

# struct's letter and the code of the published layout, for every dtype of it.
LAYOUT = {
    "uint8": ("B", 1),
    "int8": ("b", 2),
    "int16": ("h", 3),
    "int32": ("i", 4),
    "int64": ("q", 5),
    "float64": ("d", 6),
    "float32": ("f", 7),
    "uint16": ("H", 8),
}

Documents = list[list[list[int]]]
DOCUMENTS = st.lists(st.lists(st.lists(st.integers(0, 127), max_size=8), min_size=1, max_size=4), max_size=5)


def write(prefix: Path, dtype: str, documents: Documents) -> None:
    with IndexedWriter(prefix, dtype) as writer:
        for document in documents:
            for sequence in document:
                writer.add(sequence)
            writer.end_document()
        writer.finish()


def pack(dtype: str, documents: Documents) -> tuple[bytes, bytes]:
    """The `.bin` and the `.idx` as the layout has them, from nothing but `struct`."""
    letter, code = LAYOUT[dtype]
    sequences = [sequence for document in documents for sequence in document]
    lengths = [len(sequence) for sequence in sequences]
    offsets = [sum(lengths[:i]) * struct.calcsize(letter) for i in range(len(lengths))]
    borders = [sum(map(len, documents[:i])) for i in range(len(documents) + 1)]
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(sequences), len(borders))
    index += struct.pack(f"<{len(lengths)}i", *lengths)
    index += struct.pack(f"<{len(offsets)}q", *offsets)
    index += struct.pack(f"<{len(borders)}q", *borders)
    return b"".join(struct.pack(f"<{len(s)}{letter}", *s) for s in sequences), index


@given(st.sampled_from(list(LAYOUT)), DOCUMENTS)
def test_files_are_those_of_the_published_layout(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, documents: Documents
) -> None:
    prefix = tmp_path_factory.mktemp("indexed") / "train.hanzi"
    write(prefix, dtype, documents)
    numbers, index = pack(dtype, documents)
    assert Path(f"{prefix}.bin").read_bytes() == numbers
    assert Path(f"{prefix}.idx").read_bytes() == index
    assert sorted(path.name for path in prefix.parent.iterdir()) == ["train.hanzi.bin", "train.hanzi.idx"]


@given(st.sampled_from(list(LAYOUT)), DOCUMENTS, st.booleans())
def test_reads_files_of_the_published_layout(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, documents: Documents, modes: bool
) -> None:
    prefix = tmp_path_factory.mktemp("indexed") / "x"
    sequences = [sequence for document in documents for sequence in document]
    numbers, index = pack(dtype, documents)
    Path(f"{prefix}.bin").write_bytes(numbers)
    Path(f"{prefix}.idx").write_bytes(index + (bytes(len(sequences)) if modes else b""))
    reader = IndexedReader(prefix)
    assert len(reader) == len(sequences)
    assert reader.lengths.dtype == np.int32
    assert reader.documents.dtype == np.int64
    assert np.diff(reader.documents).tolist() == [len(document) for document in documents]
    assert [reader[i].tolist() for i in range(len(reader))] == sequences
    assert reader.numbers.tolist() == [number for sequence in sequences for number in sequence]
    assert all(reader[i].dtype == np.dtype(dtype) for i in range(len(reader)))


def test_numbers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "x", np.uint16) as writer:
        for number in (65536, -1, 0.5):
            with pytest.raises(OverflowError):
                writer.add(np.array([number]))


def test_a_failed_block_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(OverflowError), IndexedWriter(tmp_path / "x", np.uint8) as writer:
        writer.add([1, 2, 256])
    assert list(tmp_path.iterdir()) == []


def test_sequences_cannot_be_changed(tmp_path: Path) -> None:
    write(tmp_path / "x", "uint16", [[[1, 2]]])
    with pytest.raises(ValueError, match="read-only"):
        IndexedReader(tmp_path / "x")[0][0] = 3


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.idx"):
        IndexedReader(tmp_path / "x")
    write(tmp_path / "x", "uint16", [[[1]]])
    (tmp_path / "x.bin").unlink()
    with pytest.raises(UserError, match=r"x\.bin"):
        IndexedReader(tmp_path / "x")


@pytest.mark.parametrize("change", [-1, +1])
def test_a_bin_of_the_wrong_size_is_refused(tmp_path: Path, change: int) -> None:
    write(tmp_path / "x", "uint16", [[[1, 2, 3]]])
    numbers = (tmp_path / "x.bin").read_bytes()
    (tmp_path / "x.bin").write_bytes((numbers + b"\x00")[: len(numbers) + change])
    with pytest.raises(UserError, match=rf"x\.bin: holds {6 + change} bytes instead of 6"):
        IndexedReader(tmp_path / "x")


@pytest.mark.parametrize(
    ("offset", "replacement", "message"),
    [
        (0, b"NNIDIDX", "no MMIDIDX"),
        (9, struct.pack("<Q", 2), "version 2"),
        (17, b"\x09", "dtype code 9"),
        (18, struct.pack("<Q", 7), "bytes instead of"),
        (34, struct.pack("<i", -2), "negative"),
        (34, struct.pack("<i", 3), "offsets"),
        (42, struct.pack("<q", 2), "offsets"),
        (58, struct.pack("<q", 1), "document borders"),
        (66, struct.pack("<q", 3), "document borders"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, offset: int, replacement: bytes, message: str) -> None:
    write(tmp_path / "x", "uint16", [[[1, 2], [3]]])
    path = tmp_path / "x.idx"
    index = path.read_bytes()
    path.write_bytes(index[:offset] + replacement + index[offset + len(replacement) :])
    with pytest.raises(UserError, match=message) as caught:
        IndexedReader(tmp_path / "x")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 33, 40, 73])
def test_a_truncated_index_is_refused(tmp_path: Path, size: int) -> None:
    write(tmp_path / "x", "uint16", [[[1, 2], [3]]])
    path = tmp_path / "x.idx"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"x\.idx"):
        IndexedReader(tmp_path / "x")


SEQUENCES = [[[1, 2], [3]], [[4, 5, 6]]]
NUMBERS, INDEX = pack("uint16", SEQUENCES)
HUGE = st.sampled_from([2**31 - 1, 2**31, 2**60, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)


@settings(max_examples=300)
@given(damaged(INDEX) | st.builds(lambda at, n: INDEX[:at] + struct.pack("<Q", n) + INDEX[at + 8 :],
                                  st.sampled_from(range(9, len(INDEX) - 8)), HUGE))  # fmt: skip
def test_any_damage_to_an_index_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, index: bytes
) -> None:
    """Also numbers of 2^60 sequences, which must not be made room for."""
    prefix = tmp_path_factory.getbasetemp() / "damaged"
    Path(f"{prefix}.bin").write_bytes(NUMBERS)
    Path(f"{prefix}.idx").write_bytes(index)
    reader = answer_of(lambda: IndexedReader(prefix), prefix)
    if reader is not None:
        # Without a checksum an index may say other document borders, another dtype of that size or other lengths.
        assert sum(reader.lengths.tolist()) * reader.dtype.itemsize == len(NUMBERS)
        assert b"".join(reader[i].tobytes() for i in range(len(reader))) == NUMBERS
        assert reader.documents[-1] == len(reader)
