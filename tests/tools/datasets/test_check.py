"""Everything that may happen to the files of a dataset is found and named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import altered_json, damaged
from hzlm.data.dataset import SPLITS, STREAMS, Dataset, Record, SplitWriter
from hzlm.data.indexed import IndexedReader, IndexedWriter
from hzlm.errors import UserError
from hzlm.stored_files import describe_file
from hzlm.tools.datasets.check import check_dataset
from hzlm.vocabulary import Vocabulary

FILES = [f"{split}.{stream}.{ending}" for split in SPLITS for stream in STREAMS for ending in ("bin", "idx")]


@pytest.fixture
def copy(marked: Path, tmp_path: Path) -> Path:
    """A dataset that may be damaged."""
    return Path(shutil.copytree(marked, tmp_path / "data"))


def faults_of(folder: Path) -> list[str]:
    faults = list(check_dataset(folder))
    assert all(str(folder) in fault and len(fault.splitlines()) == 1 for fault in faults)
    return faults


def test_a_whole_dataset_has_no_faults(marked: Path) -> None:
    assert faults_of(marked) == []


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such dataset folder"):
        list(check_dataset(tmp_path / "none"))


@pytest.mark.parametrize("name", FILES)
def test_what_happens_to_one_file(copy: Path, name: str) -> None:
    path = copy / name
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert faults_of(copy) == [
        f"{path}: holds {len(content) - 1} bytes instead of {len(content)}: damaged; copy it again"
    ]
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 4
    path.write_bytes(flipped)
    assert faults_of(copy) == [f"{path}: its checksum does not fit: damaged; copy it again"]
    path.write_bytes(b"something else\n")
    (fault,) = faults_of(copy)
    assert fault.startswith(f"{path}: ")
    path.unlink()
    (fault,) = faults_of(copy)
    assert fault.startswith(f"{path}: cannot be read (No such file or directory)")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("train.reading.bin", "train.hanzi.bin"),
        ("train.hanzi.bin", "dev.hanzi.bin"),
        ("test.marks.idx", "train.marks.idx"),
        ("dev.hanzi.idx", "test.hanzi.idx"),
        ("dev.reading.idx", "test.reading.idx"),
    ],
)
def test_swapped_files_are_named(copy: Path, one: str, other: str) -> None:
    content = (copy / one).read_bytes()
    (copy / other).rename(copy / one)
    (copy / other).write_bytes(content)
    faults = faults_of(copy)
    for found, should in ((one, other), (other, one)):
        assert f"{copy / found}: holds what {should} should hold: give both their names again" in faults


def test_a_sidecar_that_is_wrong_about_a_size_is_named(copy: Path) -> None:
    path = copy / "dev.json"
    info = json.loads(path.read_text())
    size = info["files"]["dev.hanzi.bin"]["bytes"]
    info["files"]["dev.hanzi.bin"]["bytes"] = 7000
    path.write_text(json.dumps(info))
    (fault,) = faults_of(copy)
    assert fault.startswith(
        f"{path}: says that dev.hanzi.bin holds 7000 bytes; by its checksum {size} are right; copy this sidecar again"
    )


def test_swapped_splits_are_named(copy: Path) -> None:
    for path in sorted(copy.glob("dev.*")):
        rest = path.name.removeprefix("dev.")
        train = copy / f"train.{rest}"
        train.rename(copy / "kept")
        path.rename(train)
        (copy / "kept").rename(path)
    assert {fault.partition(":")[0] for fault in faults_of(copy)} == {str(copy / "train.json"), str(copy / "dev.json")}


@pytest.mark.parametrize("name", ["train.json", "vocabulary.json"])
def test_a_missing_sidecar_or_vocabulary_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert any(fault.startswith(f"{copy / name}: cannot read") for fault in faults_of(copy))


def test_another_vocabulary_is_named(copy: Path) -> None:
    vocabulary = Vocabulary.load(copy / "vocabulary.json")
    Vocabulary(vocabulary.characters[::-1], vocabulary.readings).save(copy / "vocabulary.json")
    faults = faults_of(copy)
    assert len(faults) == 3
    assert all("vocabulary.json: not the vocabulary that the" in fault for fault in faults)


def vouch_again(folder: Path, split: str, **changed: int) -> None:
    """A sidecar whose checksums fit the files as they are, so that only their content tells of a fault."""
    path = folder / f"{split}.json"
    info = json.loads(path.read_text())
    info["files"] = {name: describe_file(folder / name) for name in info["files"]}
    path.write_text(json.dumps({**info, **changed}))


def change_number(path: Path, dtype: str, at: int, value: int) -> None:
    numbers = np.fromfile(path, dtype)
    numbers[at] = value
    numbers.tofile(path)


@pytest.mark.parametrize(
    ("stream", "value", "message"),
    [
        ("hanzi", 60_000, "1 ids that are no targets of the vocabulary"),
        ("hanzi", Vocabulary.pad_id, "1 ids that are no targets of the vocabulary"),
        ("hanzi", Vocabulary.toned_start, "1 ids that are no targets of the vocabulary"),
        ("reading", Vocabulary.mask_id, "1 ids that are neither syllables nor the character itself"),
        ("reading", Vocabulary.syllable_start, "1 ids that are neither syllables nor the character itself"),
        ("reading", Vocabulary.key_start - 1, "1 readings that the vocabulary does not know of their hanzi"),
        ("marks", 1 << 2, "1 marks of following sentences inside a sentence"),
        ("marks", 3 << 3, "1 second readings that their hanzi does not have"),
    ],
)
def test_ids_that_cannot_be_are_named_with_their_place(copy: Path, stream: str, value: int, message: str) -> None:
    dataset = Dataset.open(copy, "train")
    guo = dataset.vocabulary.encode("国")[0]
    sentence, character = next(
        (i, int(places[0]))
        for i in range(3, len(dataset))
        if len(places := np.flatnonzero(dataset.record(i).hanzi[1:] == guo) + 1)
    )
    at = dataset.streams["hanzi"].place(sentence) + character
    path = copy / f"train.{stream}.bin"
    change_number(path, "u1" if stream == "marks" else "<u2", at, value)
    vouch_again(copy, "train")
    where = f"the first in sentence {sentence}, position {character}; prepare the dataset again"
    assert f"{path}: {message}, {where}" in faults_of(copy)


def test_streams_that_are_not_aligned_are_named(copy: Path) -> None:
    reader = IndexedReader(copy / "dev.marks")
    with IndexedWriter(copy / "dev.marks", np.uint8) as writer:
        writer.add_many(np.array(reader.numbers), np.array(reader.lengths))
        writer.finish()
    vouch_again(copy, "dev")
    (fault,) = faults_of(copy)
    assert fault.startswith(f"{copy / 'dev.marks.idx'}: its lengths or documents are not those of the hanzi")


def test_damage_inside_an_index_is_named(copy: Path) -> None:
    path = copy / "train.hanzi.idx"
    content = bytearray(path.read_bytes())
    content[34] ^= 1
    path.write_bytes(content)
    vouch_again(copy, "train")
    assert f"{path}: holds offsets that do not follow from its lengths; write it again" in faults_of(copy)


def test_ids_of_another_type_are_named(copy: Path) -> None:
    """As the code of a dtype in the index says it, which no size tells of."""
    path = copy / "train.hanzi.idx"
    content = bytearray(path.read_bytes())
    content[17] = 3
    path.write_bytes(content)
    vouch_again(copy, "train")
    (fault,) = faults_of(copy)
    assert fault.startswith(f"{path}: holds int16 instead of uint16")


def test_wrong_counts_are_named(copy: Path) -> None:
    vouch_again(copy, "test", sequences=7000)
    (fault,) = faults_of(copy)
    assert fault.startswith(f"{copy / 'test.json'}: its counts are not its streams'")


@settings(max_examples=40)
@given(st.data())
def test_any_damage_to_any_file_is_found(
    marked: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "checked"
    shutil.copytree(marked, folder, dirs_exist_ok=True)
    path = folder / data.draw(st.sampled_from(sorted(file.name for file in marked.iterdir())))
    content = path.read_bytes()
    changed = damaged(content)
    if path.suffix == ".json":
        changed |= altered_json(json.loads(content))
    path.write_bytes(data.draw(changed))
    if not faults_of(folder):
        # Only JSON can be written in another way and say the same.
        assert path.suffix == ".json"
        for split in SPLITS:
            found, expected = Dataset.open(folder, split), Dataset.open(marked, split)
            assert found.vocabulary == expected.vocabulary
            assert found.info["files"] == expected.info["files"]


def test_a_large_dataset_is_looked_at_in_blocks(tmp_path: Path, marked: Path) -> None:
    """A fault behind the first block of sentences has its own sentence's number."""
    vocabulary = Vocabulary.load(marked / "vocabulary.json")
    vocabulary.save(tmp_path / "vocabulary.json")
    ids = np.full(40_000, vocabulary.unknown_id)
    ids[[35_001, 35_003]] = 1
    for split in SPLITS:
        with SplitWriter(tmp_path, split, vocabulary) as writer:
            writer.add_many(Record(ids, ids, np.zeros(40_000, np.uint8)), np.full(20_000, 2), [20_000])
            writer.finish()
    for split, fault in zip(SPLITS, faults_of(tmp_path), strict=True):
        assert fault.startswith(
            f"{tmp_path / split}.hanzi.bin: 2 ids that are no targets of the vocabulary, the first in sentence 17500, "
            "position 1"
        )
