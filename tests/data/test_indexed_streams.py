"""What opening a dataset finds of damage that no size tells of, and what is left for reading a record."""

from pathlib import Path

import numpy as np
import pytest

import hzlm.data.indexed_streams as streams_module
from hzlm.data.dataset import Dataset, Record, SplitWriter
from hzlm.errors import UserError
from hzlm.vocabulary import Vocabulary

HEADER = 34
"""Bytes of an index before its lengths."""
SENTENCES, LENGTH = 40, 3


def write(folder: Path, vocabulary: Vocabulary) -> Path:
    """Forty times 中国 with a comma."""
    vocabulary.save(folder / "vocabulary.json")
    hanzi = vocabulary.encode("中国，")
    reading = np.array([vocabulary.id_of("syl:zhong1"), vocabulary.id_of("syl:guo2"), hanzi[2]])
    with SplitWriter(folder, "train", vocabulary) as writer:
        for _ in range(SENTENCES):
            writer.add(Record(hanzi, reading, np.ones(LENGTH, np.uint8)))
        writer.finish()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of a small vocabulary."""
    return write(tmp_path, Vocabulary(tuple("中国，"), {"中": {"zhong1": 1}, "国": {"guo2": 1}}))


@pytest.fixture
def _few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening looks at 5 of 10 blocks of the index, and at 3 of 30 blocks of ids: the first, the last, one between."""
    for name, value in (("_BLOCK", 4), ("_MOST_BLOCKS", 5), ("_ID_BLOCK", 4), ("_MOST_ID_BLOCKS", 3)):
        monkeypatch.setattr(streams_module, name, value)


def change(path: Path, dtype: str, at: int, value: int, header: int = 0) -> None:
    """Sets number `at` behind so many bytes."""
    content = bytearray(path.read_bytes())
    size = np.dtype(dtype).itemsize
    content[header + at * size : header + (at + 1) * size] = np.array(value, dtype).tobytes()
    path.write_bytes(content)


def refuse(folder: Path, name: str, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        Dataset.open(folder, "train")
    assert str(caught.value).startswith(f"{folder / name}: ")


def test_swapped_streams_are_refused(folder: Path) -> None:
    content = (folder / "train.hanzi.bin").read_bytes()
    (folder / "train.reading.bin").rename(folder / "train.hanzi.bin")
    (folder / "train.reading.bin").write_bytes(content)
    refuse(folder, "train.hanzi.bin", "ids that are no targets")


@pytest.mark.parametrize("sentence", [0, 20, SENTENCES - 1])
@pytest.mark.parametrize(
    ("stream", "value", "what"),
    [
        ("hanzi", 0xFFFF, "ids that are no targets"),
        ("hanzi", Vocabulary.mask_id, "ids that are no targets"),
        ("hanzi", Vocabulary.toned_start, "ids that are no targets"),
        ("reading", 0xFFFF, "ids that are neither"),
        ("reading", Vocabulary.syllable_start, "ids that are neither"),
        ("reading", Vocabulary.unknown_id, "ids that are neither"),
    ],
)
def test_ids_that_cannot_be_are_refused(folder: Path, stream: str, value: int, what: str, sentence: int) -> None:
    change(folder / f"train.{stream}.bin", "<u2", sentence * LENGTH, value)
    refuse(folder, f"train.{stream}.bin", what)


@pytest.mark.usefixtures("_few_blocks")
@pytest.mark.parametrize("place", [0, SENTENCES * LENGTH - 1])
def test_both_ends_of_the_ids_are_looked_at(folder: Path, place: int) -> None:
    change(folder / "train.hanzi.bin", "<u2", place, 0xFFFF)
    refuse(folder, "train.hanzi.bin", "ids that are no targets")


def test_unknown_characters_are_ids_too(folder: Path) -> None:
    for stream in ("hanzi", "reading"):
        change(folder / f"train.{stream}.bin", "<u2", 7, Vocabulary.unknown_id)
    record = Dataset.open(folder, "train").record(2)
    assert [record.hanzi[1], record.reading[1]] == [Vocabulary.unknown_id] * 2


@pytest.mark.parametrize("stream", ["hanzi", "reading", "marks"])
@pytest.mark.parametrize("sentence", [1, 17, SENTENCES - 2])
@pytest.mark.parametrize("shift", [1, 2, -2])
def test_a_moved_offset_is_refused(folder: Path, stream: str, sentence: int, shift: int) -> None:
    offset = sentence * LENGTH * (1 if stream == "marks" else 2)
    change(folder / f"train.{stream}.idx", "<i8", sentence, offset + shift, HEADER + 4 * SENTENCES)
    refuse(folder, f"train.{stream}.idx", "its offsets do not follow from its lengths")


@pytest.mark.usefixtures("_few_blocks")
@pytest.mark.parametrize("sentence", [3, 16, 17, SENTENCES - 3])
def test_offsets_are_looked_at_in_the_blocks_whose_lengths_are(folder: Path, sentence: int) -> None:
    """Also the first of a block, which the rest of it contradicts."""
    change(folder / "train.hanzi.idx", "<i8", sentence, sentence * LENGTH * 2 + 2, HEADER + 4 * SENTENCES)
    refuse(folder, "train.hanzi.idx", "its offsets do not follow from its lengths")


def test_ids_of_another_type_are_refused(folder: Path) -> None:
    change(folder / "train.reading.idx", "u1", 17, 3)
    refuse(folder, "train.reading.idx", "holds int16 instead of uint16")


@pytest.mark.usefixtures("_few_blocks")
@pytest.mark.parametrize("stream", ["hanzi", "reading"])
def test_ids_outside_the_vocabulary_are_refused_where_opening_did_not_look(folder: Path, stream: str) -> None:
    size = Vocabulary.load(folder / "vocabulary.json").size
    for sentence, value in ((3, size), (4, 1 << 15), (5, size - 1)):
        change(folder / f"train.{stream}.bin", "<u2", sentence * LENGTH, value)
    dataset = Dataset.open(folder, "train")
    for sentence in (3, 4):
        with pytest.raises(UserError, match=f"sentence {sentence} holds ids outside the vocabulary") as caught:
            dataset.record(sentence)
        assert str(caught.value).startswith(f"{folder / f'train.{stream}.bin'}: ")
    assert getattr(dataset.record(5), stream)[0] == size - 1
    with pytest.raises(IndexError):
        dataset.record(SENTENCES)


@pytest.mark.usefixtures("_few_blocks")
@pytest.mark.parametrize("value", [-1, -(2**31), 2**30])
def test_ids_of_four_bytes_too(tmp_path: Path, value: int) -> None:
    hanzi = ("中", "国", "，", *map(chr, range(0x20000, 0x20000 + 70_000)))
    folder = write(tmp_path, Vocabulary(hanzi, {"中": {"zhong1": 1}, "国": {"guo2": 1}}))
    change(folder / "train.hanzi.bin", "<i4", 4 * LENGTH, value)
    dataset = Dataset.open(folder, "train")
    assert dataset.record(3).hanzi.tolist() == dataset.vocabulary.encode("中国，").tolist()
    with pytest.raises(UserError, match="sentence 4 holds ids outside the vocabulary"):
        dataset.record(4)
