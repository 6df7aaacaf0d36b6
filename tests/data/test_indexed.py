import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from merging import merge_indexed

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


def damage_index(prefix: Path, documents: Documents, offset: int, replacement: bytes) -> Path:
    """The damaged index. S lengths lie from 34 on, then S offsets, then the borders of documents."""
    write(prefix, "uint16", documents)
    path = Path(f"{prefix}.idx")
    index = path.read_bytes()
    path.write_bytes(index[:offset] + replacement + index[offset + len(replacement) :])
    return path


@pytest.mark.parametrize(
    ("offset", "replacement", "message"),
    [
        (0, b"NNIDIDX", "no MMIDIDX"),
        (9, struct.pack("<Q", 2), "version 2"),
        (17, b"\x09", "dtype code 9"),
        (18, struct.pack("<Q", 7), "bytes instead of"),
        (38, struct.pack("<i", -1), "negative"),
        (38, struct.pack("<i", 2), r"x\.bin: holds 6 bytes instead of 8"),
        (42, struct.pack("<q", 2), "offsets"),
        (50, struct.pack("<q", 2), r"x\.bin: holds 6 bytes instead of 4"),
        (58, struct.pack("<q", 1), "document borders"),
        (66, struct.pack("<q", 3), "document borders"),
    ],
)
def test_a_damaged_header_or_end_of_an_index_is_refused(
    tmp_path: Path, offset: int, replacement: bytes, message: str
) -> None:
    damage_index(tmp_path / "x", [[[1, 2], [3]]], offset, replacement)
    with pytest.raises(UserError, match=message) as caught:
        IndexedReader(tmp_path / "x")
    assert str(tmp_path / "x") in str(caught.value)


@pytest.mark.parametrize(
    ("documents", "offset", "replacement", "message"),
    [
        ([[[1, 2], [3]]], 34, struct.pack("<i", -2), "negative"),
        ([[[1, 2], [3]]], 34, struct.pack("<i", 1), "offsets"),
        ([[[1, 2], [3], [4]]], 54, struct.pack("<q", 2), "offsets"),
        ([[[1]], [[2]], [[3]]], 78, struct.pack("<q", 3), "borders that are not in order"),
    ],
)
def test_damage_inside_an_index_is_found_when_it_is_verified(
    tmp_path: Path, documents: Documents, offset: int, replacement: bytes, message: str
) -> None:
    path = damage_index(tmp_path / "x", documents, offset, replacement)
    reader = IndexedReader(tmp_path / "x")
    with pytest.raises(UserError, match=message) as caught:
        reader.verify()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("offset", [-8, 2**62, 6])
def test_a_sequence_outside_the_bin_is_refused(tmp_path: Path, offset: int) -> None:
    damage_index(tmp_path / "x", [[[1], [2], [3]]], 54, struct.pack("<q", offset))
    with pytest.raises(UserError, match=r"x\.idx: places sequence 1 outside"):
        IndexedReader(tmp_path / "x")[1]


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
    for i in range(0 if reader is None else len(reader)):
        answer_of(lambda i=i: reader[i], prefix)  # type: ignore[misc]
    if reader is not None and answer_of(lambda: [reader.verify()], prefix) is not None:
        # Without a checksum an index may say other document borders, another dtype of that size or other lengths.
        assert sum(reader.lengths.tolist()) * reader.dtype.itemsize == len(NUMBERS)
        assert b"".join(reader[i].tobytes() for i in range(len(reader))) == NUMBERS
        assert reader.documents[-1] == len(reader)


@given(st.sampled_from(list(LAYOUT)), st.lists(DOCUMENTS, max_size=4))
def test_many_sequences_at_once_are_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, blocks: list[Documents]
) -> None:
    prefix = tmp_path_factory.mktemp("indexed") / "x"
    with IndexedWriter(prefix, dtype) as writer:
        for documents in blocks:
            sequences = [sequence for document in documents for sequence in document]
            numbers = np.array([number for sequence in sequences for number in sequence], np.int64)
            lengths = np.array([len(sequence) for sequence in sequences], np.int64)
            ends = np.cumsum([len(document) for document in documents], dtype=np.int64)
            kept = ends.copy()
            writer.add_many(numbers, lengths, ends)
            assert ends.tolist() == kept.tolist()
        writer.finish()
    numbers, index = pack(dtype, [document for documents in blocks for document in documents])
    assert Path(f"{prefix}.bin").read_bytes() == numbers
    assert Path(f"{prefix}.idx").read_bytes() == index


def test_a_document_may_go_on_over_many_calls(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "x", np.uint8) as writer:
        writer.add_many(np.array([1, 2, 3]), np.array([1, 2]), [1, 1])
        writer.add([4])
        writer.add_many(np.array([5]), np.array([1]), [0, 1])
        writer.end_document()
        writer.finish()
    assert IndexedReader(tmp_path / "x").documents.tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("numbers", "lengths", "ends", "error"),
    [
        ([1, 2], [1], (), ValueError),
        ([1], [2, -1], (), ValueError),
        ([1, 2], [1, 1], (2, 1), ValueError),
        ([1, 2], [1, 1], (3,), ValueError),
        ([1, 2], [1, 1], (-1,), ValueError),
        ([1, 256], [1, 1], (), OverflowError),
    ],
)
def test_many_sequences_that_contradict_themselves_are_refused(
    tmp_path: Path, numbers: list[int], lengths: list[int], ends: tuple[int, ...], error: type[Exception]
) -> None:
    with IndexedWriter(tmp_path / "x", np.uint8) as writer, pytest.raises(error):
        writer.add_many(np.array(numbers), np.array(lengths), ends)


@settings(max_examples=30)
@given(st.lists(DOCUMENTS, min_size=1, max_size=4))
def test_merging_is_concatenation(tmp_path_factory: pytest.TempPathFactory, files: list[Documents]) -> None:
    folder = tmp_path_factory.mktemp("merged")
    prefixes = [folder / str(i) for i in range(len(files))]
    for prefix, documents in zip(prefixes, files, strict=True):
        write(prefix, "uint16", documents)
    merge_indexed(prefixes, folder / "all")
    numbers, index = pack("uint16", [document for documents in files for document in documents])
    assert (folder / "all.bin").read_bytes() == numbers
    assert (folder / "all.idx").read_bytes() == index


@settings(max_examples=30)
@given(DOCUMENTS, st.data())
def test_some_documents_can_be_taken(
    tmp_path_factory: pytest.TempPathFactory, documents: Documents, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("taken")
    write(folder / "x", "uint16", documents)
    start = data.draw(st.integers(0, len(documents)))
    end = data.draw(st.integers(start, len(documents)))
    with IndexedWriter(folder / "y", "uint16") as writer:
        writer.add([7])
        writer.append(IndexedReader(folder / "x"), start, end)
        writer.finish()
    numbers, index = pack("uint16", [[[7]], *documents[start:end]])
    assert (folder / "y.bin").read_bytes() == numbers
    assert (folder / "y.idx").read_bytes() == index


def test_numbers_of_different_types_are_not_merged(tmp_path: Path) -> None:
    write(tmp_path / "x", "uint16", [[[1]]])
    write(tmp_path / "y", "int32", [[[1]]])
    with pytest.raises(UserError, match=r"y\.idx: holds int32, which cannot follow uint16"):
        merge_indexed([tmp_path / "x", tmp_path / "y"], tmp_path / "z")
    assert not list(tmp_path.glob("z*"))
