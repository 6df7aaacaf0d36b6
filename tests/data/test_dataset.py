import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hzlm.data.indexed_streams as streams_module
from damage import altered_json, answer_of, damaged
from hzlm.data.dataset import SPLITS, STREAMS, Dataset, Record, SplitWriter
from hzlm.data.indexed import IndexedWriter
from hzlm.data.marks import MARK_AMBIGUOUS, MARK_WORD_START
from hzlm.errors import UserError
from hzlm.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    tuple("的，中国行"),
    {"的": {"de5": 3}, "中": {"zhong1": 2}, "国": {"guo2": 2}, "行": {"xing2": 1, "hang2": 1}},
)


def make_record(text: str, readings: str, marks: list[int]) -> Record:
    ids = [VOCABULARY.id_of(f"syl:{r}" if r.isalnum() else f"lit:{r}") for r in readings.split()]
    return Record(VOCABULARY.encode(text), np.array(ids, np.int32), np.array(marks, np.uint8))


RECORDS = [
    make_record("中国，行", "zhong1 guo2 ， xing2", [MARK_WORD_START, 0, 1, MARK_WORD_START | MARK_AMBIGUOUS]),
    make_record("的", "de5", [MARK_WORD_START]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    VOCABULARY.save(tmp_path / "vocabulary.json")
    for split in SPLITS:
        with SplitWriter(tmp_path, split, VOCABULARY) as writer:
            for record in RECORDS if split == "train" else []:
                writer.add(record)
                writer.end_document()
            writer.finish()
    return tmp_path


def test_records_come_back(folder: Path) -> None:
    dataset = Dataset.open(folder, "train")
    assert len(dataset) == 2
    assert dataset.lengths.tolist() == [4, 1]
    assert dataset.documents.tolist() == [0, 1, 2]
    assert dataset.vocabulary == VOCABULARY
    assert (dataset.folder, dataset.split) == (folder, "train")
    for i, expected in enumerate(RECORDS):
        record = dataset.record(i)
        for name, dtype in (("hanzi", np.int32), ("reading", np.int32), ("marks", np.uint8)):
            stream = getattr(record, name)
            assert stream.dtype == dtype
            assert stream.tolist() == getattr(expected, name).tolist()


def test_an_empty_split_is_a_dataset(folder: Path) -> None:
    dataset = Dataset.open(folder, "dev")
    assert len(dataset) == 0
    assert dataset.lengths.shape == (0,)


def test_the_sidecar_vouches_for_the_files(folder: Path) -> None:
    info = Dataset.open(folder, "train").info
    assert info == json.loads((folder / "train.json").read_text())
    assert (info["sequences"], info["positions"]) == (2, 5)
    assert len(info["files"]) == 6
    for name, expected in info["files"].items():
        content = (folder / name).read_bytes()
        assert expected == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    # Two bytes an id while the vocabulary is small, one byte of marks.
    assert info["files"]["train.hanzi.bin"]["bytes"] == 2 * 5
    assert info["files"]["train.marks.bin"]["bytes"] == 5


def test_a_large_vocabulary_takes_four_bytes_an_id(tmp_path: Path) -> None:
    large = Vocabulary(tuple(map(chr, range(0x20000, 0x20000 + 70_000))), {})
    large.save(tmp_path / "vocabulary.json")
    ids = np.array([large.size - 1, large.target_start], np.int32)
    with SplitWriter(tmp_path, "train", large) as writer:
        writer.add(Record(ids, ids, np.zeros(2, np.uint8)))
        writer.finish()
    assert (tmp_path / "train.hanzi.bin").stat().st_size == 8
    assert Dataset.open(tmp_path, "train").record(0).hanzi.tolist() == ids.tolist()


def test_streams_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with SplitWriter(tmp_path, "train", VOCABULARY) as writer, pytest.raises(ValueError, match="2, 1 and 1"):
        writer.add(Record(np.zeros(2, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint8)))
    assert list(tmp_path.iterdir()) == []


def refuse(folder: Path, message: str) -> str:
    with pytest.raises(UserError, match=message) as caught:
        Dataset.open(folder, "train")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("stream", ["hanzi", "reading", "marks"])
@pytest.mark.parametrize("ending", ["bin", "idx"])
def test_truncated_and_missing_files_are_refused(folder: Path, stream: str, ending: str) -> None:
    path = folder / f"train.{stream}.{ending}"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert str(path) in refuse(folder, f"holds {len(content) - 1} bytes instead of {len(content)}")
    path.unlink()
    assert str(path) in refuse(folder, "No such file")


def test_another_vocabulary_is_refused(folder: Path) -> None:
    Vocabulary(VOCABULARY.characters[::-1], VOCABULARY.readings).save(folder / "vocabulary.json")
    refuse(folder, r"vocabulary\.json: not the vocabulary")


def test_streams_that_are_not_aligned_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    with SplitWriter(other, "train", VOCABULARY) as writer:
        writer.add(RECORDS[1])
        writer.finish()
    info = json.loads((folder / "train.json").read_text())
    donor = json.loads((other / "train.json").read_text())
    for name in ("train.marks.bin", "train.marks.idx"):
        (folder / name).write_bytes((other / name).read_bytes())
        info["files"][name] = donor["files"][name]
    (folder / "train.json").write_text(json.dumps(info))
    refuse(folder, r"train\.marks\.idx: its lengths")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ("[]", "no sidecar"),
        ('{"format": "hzlm-dataset", "version": 2}', "entries are missing"),
        ('{"format": "hzlm-dataset", "version": 1}', "of version 1, but this program reads version 2"),
    ],
)
def test_a_damaged_sidecar_is_refused(folder: Path, content: str, message: str) -> None:
    (folder / "train.json").write_text(content)
    assert str(folder / "train.json") in refuse(folder, message)


def test_missing_things_are_named(folder: Path) -> None:
    (folder / "train.json").unlink()
    refuse(folder, r"train\.json")
    with pytest.raises(UserError, match="no such dataset folder"):
        Dataset.open(folder / "none", "train")


@given(st.data())
def test_damage_to_any_file_is_refused_or_leaves_a_dataset_that_can_be_read(
    whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged_dataset"
    folder.mkdir(exist_ok=True)
    name = data.draw(st.sampled_from([name for name in whole if name.startswith(("train.", "vocabulary."))]))
    changed = damaged(whole[name])
    if name.endswith(".json"):
        changed |= altered_json(json.loads(whole[name]))
    for other, content in whole.items():
        (folder / other).write_bytes(content)
    (folder / name).write_bytes(data.draw(changed))
    # What opening does not see is for `hzlm data check` to find (tests/tools/datasets/test_check.py).
    found = answer_of(lambda: Dataset.open(folder, "train"), folder)
    for i in range(0 if found is None else len(found)):
        answer_of(functools.partial(found.record, i), folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a dataset, by name."""
    folder = tmp_path_factory.mktemp("whole")
    VOCABULARY.save(folder / "vocabulary.json")
    with SplitWriter(folder, "train", VOCABULARY) as writer:
        for record in RECORDS:
            writer.add(record)
            writer.end_document()
        writer.finish()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "change",
    [{"sequences": 3}, {"positions": 50}, {"split": "dev"}, {"vocabulary": None}, {"source": "else"}, {"source": []}],
)
def test_a_sidecar_that_is_wrong_about_its_streams_is_refused(folder: Path, change: dict[str, object]) -> None:
    path = folder / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refuse(folder, r"train\.json|vocabulary\.json")


def write_pairs(folder: Path, sources: list[str]) -> Dataset:
    """A dataset of 中 with each of these sources, as typed tokens."""
    VOCABULARY.save(folder / "vocabulary.json")
    with SplitWriter(folder, "train", VOCABULARY, is_pairs=True) as writer:
        for source in sources:
            reading = np.array([VOCABULARY.id_of(source)], np.int32)
            writer.add(Record(VOCABULARY.encode("中"), reading, np.zeros(1, np.uint8)))
            writer.end_document()
        writer.finish()
    return Dataset.open(folder, "train")


def test_pairs_have_any_source(tmp_path: Path) -> None:
    sources = ["lit:国", "lit:中", "[UNK]", "syl:zhong", "syl:guo2"]
    dataset = write_pairs(tmp_path, sources)
    assert dataset.is_pairs
    assert dataset.info["source"] == "given"
    assert [VOCABULARY.tokens[dataset.record(i).reading[0]] for i in range(5)] == sources


@pytest.mark.parametrize("source", ["[PAD]", "[BOS]", "[MASK]", "key:zh"])
def test_ids_that_no_given_source_has_are_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(UserError, match=r"train\.reading\.bin: holds ids that no given source has"):
        write_pairs(tmp_path, [source])


def test_a_sidecar_says_whether_readings_are_given(folder: Path) -> None:
    """Nothing, as that of every dataset written before there were pairs, or "annotated" means that they are not."""
    path = folder / "train.json"
    info = json.loads(path.read_text())
    assert "source" not in info
    assert not Dataset.open(folder, "train").is_pairs
    path.write_text(json.dumps({**info, "source": "annotated"}))
    assert not Dataset.open(folder, "train").is_pairs


def test_many_records_at_once_are_the_same_files(folder: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    with SplitWriter(tmp_path, "train", VOCABULARY) as writer:
        streams = [np.concatenate([getattr(record, stream) for record in RECORDS]) for stream in STREAMS]
        writer.add_many(Record(*streams), np.array([4, 1]), [1, 2])
        writer.finish()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("train.*")} == {
        name: content for name, content in whole.items() if name.startswith("train.")
    }


def test_the_places_of_long_datasets_are_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose lengths differ in the second and the fourth of five blocks, of which opening compares three."""
    monkeypatch.setattr(streams_module, "_BLOCK", 2)
    monkeypatch.setattr(streams_module, "_MOST_BLOCKS", 3)
    VOCABULARY.save(tmp_path / "vocabulary.json")
    with SplitWriter(tmp_path, "train", VOCABULARY) as writer:
        for _ in range(10):
            writer.add(RECORDS[0])
        writer.finish()
    Dataset.open(tmp_path, "train")
    with IndexedWriter(tmp_path / "train.marks", np.uint8) as marks:
        marks.add_many(np.zeros(40, np.uint8), np.array([4, 4, 4, 3, 4, 4, 4, 5, 4, 4]))
        marks.finish()
    with pytest.raises(UserError, match=r"train\.marks\.idx: its lengths"):
        Dataset.open(tmp_path, "train")
