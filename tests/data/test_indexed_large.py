"""Past the numbers that 32 bits hold, in files whose zeros take no place on the disk; and memory that does not grow."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from merging import merge_indexed

from hzlm.data import indexed
from hzlm.data.indexed import IndexedReader, IndexedWriter
from hzlm.data.indexed_layout import LONGEST, place_sequences

HALF = 2**30 + 1


def write_sparse(prefix: Path, lengths: list[int], last: bytes) -> None:
    """uint8 sequences of zeros but for the end of the last one, which is a document of its own; from `struct` alone."""
    with Path(f"{prefix}.bin").open("wb") as file:
        file.seek(sum(lengths) - len(last))
        file.write(last)
    offsets = [sum(lengths[:i]) for i in range(len(lengths))]
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 1, len(lengths), 3)
    index += struct.pack(f"<{len(lengths)}i{len(lengths)}q", *lengths, *offsets)
    index += struct.pack("<3q", 0, len(lengths) - 1, len(lengths))
    Path(f"{prefix}.idx").write_bytes(index)


@pytest.mark.slow
def test_a_merged_file_may_hold_more_than_2_to_the_31_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.disk_usage(tmp_path).free < 4 * HALF:
        pytest.skip("needs 4 GB of free disk")
    # Two gigabytes of zeros, soon removed, need not reach the disk itself.
    monkeypatch.setattr(indexed, "force_to_disk", lambda path: None)
    write_sparse(tmp_path / "a", [HALF, 0, HALF], b"\x05\x06")
    write_sparse(tmp_path / "b", [1, 2], b"\x07\x08\x09")
    merge_indexed([tmp_path / "a", tmp_path / "b", tmp_path / "b"], tmp_path / "merged")
    merged = IndexedReader(tmp_path / "merged")
    merged.verify()
    assert merged.lengths.tolist() == [HALF, 0, HALF, 1, 2, 1, 2]
    assert merged.documents.tolist() == [0, 2, 3, 4, 5, 6, 7]
    assert len(merged.numbers) == 2 * HALF + 6 > 2**31
    assert [merged[i].tolist() for i in range(3, 7)] == [[7], [8, 9]] * 2
    assert merged[2][-2:].tolist() == [5, 6]
    assert (merged.place(3), merged.place(7)) == (2 * HALF, 2 * HALF + 6)
    (tmp_path / "merged.bin").unlink()


def test_a_sparse_file_past_2_to_the_33_bytes_is_read(tmp_path: Path) -> None:
    lengths = [LONGEST] * 4
    try:
        write_sparse(tmp_path / "a", [*lengths, 3], b"\x07\x08\x09")
    except OSError as error:
        pytest.skip(f"this file system takes no file of 8 GB: {error}")
    reader = IndexedReader(tmp_path / "a")
    reader.verify()
    assert reader.place(4) == 4 * LONGEST
    assert reader[4].tolist() == [7, 8, 9]
    with IndexedWriter(tmp_path / "b", np.uint8) as writer:
        writer.append(reader, 1, 2)
        writer.finish()
    assert [sequence.tolist() for sequence in IndexedReader(tmp_path / "b")] == [[7, 8, 9]]


def test_offsets_are_those_of_whole_numbers_without_an_end() -> None:
    lengths = np.full(1000, LONGEST, np.int32)
    offsets, end = place_sequences(lengths, 2**40, 8)
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [2**40 + i * LONGEST * 8 for i in range(1000)]
    assert end == 2**40 + 1000 * LONGEST * 8


def test_a_sequence_that_the_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.uint8(0), LONGEST + 1)
    with IndexedWriter(tmp_path / "x", np.uint8) as writer, pytest.raises(OverflowError, match="2147483648 numbers"):
        writer.add_many(huge, np.array([LONGEST + 1]))


PROGRAM = """
import re, sys
from pathlib import Path
import numpy as np
from hzlm.data import indexed
from hzlm.data.indexed import IndexedReader, IndexedWriter
folder, blocks = Path(sys.argv[1]), int(sys.argv[2])
numbers, lengths, ends = np.zeros(200_000, np.uint8), np.full(100_000, 2), np.arange(1, 100_001)
def peak():  # KB; getrusage would give the parent's where that was larger
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
with IndexedWriter(folder / "x", np.uint8) as writer:
    for _ in range(10):
        writer.add_many(numbers, lengths, ends)
    start = peak()
    for _ in range(blocks - 10):
        writer.add_many(numbers, lengths, ends)
    writer.finish()
reader = IndexedReader(folder / "x")
reader.verify()
print(len(reader), peak() - start)
"""


def test_memory_does_not_grow_with_the_number_of_sequences(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path, "60"], capture_output=True, text=True, check=True)
    sequences, grown = map(int, result.stdout.split())
    assert sequences == 6_000_000
    # In memory the index would be as large as its file at least.
    assert (tmp_path / "x.idx").stat().st_size > 120_000_000
    assert grown < 40_000, f"{grown} KB"
