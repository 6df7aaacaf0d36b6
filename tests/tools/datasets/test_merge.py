import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from hzlm.data.dataset import SPLITS, STREAMS, Dataset, SplitWriter
from hzlm.errors import UserError
from hzlm.tools.datasets.check import check_dataset
from hzlm.tools.datasets.merge import merge_datasets
from hzlm.vocabulary import Vocabulary

WriteMarked = Callable[[Path, int], Path]


def documents_of(folder: Path, split: str) -> list[list[list[list[int]]]]:
    """For each document its sentences, of each the three streams."""
    dataset = Dataset.open(folder, split)
    borders = dataset.documents.tolist()
    records = [dataset.record(i) for i in range(len(dataset))]
    streams = [[getattr(record, stream).tolist() for stream in STREAMS] for record in records]
    return [streams[start:end] for start, end in pairwise(borders)]


def test_merging_is_concatenation(tmp_path: Path, write_marked: WriteMarked) -> None:
    folders = [write_marked(tmp_path / f"data-{seed}", seed) for seed in (1, 2, 3)]
    report = merge_datasets(folders, tmp_path / "out" / "all")
    assert list(check_dataset(tmp_path / "out" / "all")) == []
    for split in SPLITS:
        expected = [document for folder in folders for document in documents_of(folder, split)]
        assert documents_of(tmp_path / "out" / "all", split) == expected
        characters = sum(Dataset.open(folder, split).info["positions"] for folder in folders)
        sentences = sum(map(len, expected))
        row = f"{tmp_path / 'out' / 'all'} {split} {len(expected)} {sentences} {characters}"
        assert row.split() in [line.replace(",", "").split() for line in report.splitlines()]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["all"]


def test_held_out_texts_are_merged_where_all_have_them(tmp_path: Path, write_marked: WriteMarked) -> None:
    folders = [write_marked(tmp_path / f"data-{seed}", seed) for seed in (1, 2)]
    for folder in folders:
        (folder / "test.tsv").write_text(f"wo\t我\t{folder.name}\n", "utf-8")
    (folders[0] / "dev.tsv").write_text("wo\t我\n", "utf-8")
    merge_datasets(folders, tmp_path / "all")
    assert (tmp_path / "all" / "test.tsv").read_text("utf-8") == "wo\t我\tdata-1\nwo\t我\tdata-2\n"
    assert not (tmp_path / "all" / "dev.tsv").exists()


def test_held_out_texts_are_merged_in_constant_memory(tmp_path: Path, write_marked: WriteMarked) -> None:
    folder = write_marked(tmp_path / "data", 1)
    size = 1 << 25
    with (folder / "test.tsv").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    merge_datasets([folder, folder], tmp_path / "all")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "all" / "test.tsv").stat().st_size == 2 * size
    assert peak < size / 2


def test_datasets_of_two_vocabularies_are_refused(tmp_path: Path, write_marked: WriteMarked) -> None:
    one, other = write_marked(tmp_path / "one", 1), tmp_path / "other"
    other.mkdir()
    vocabulary = Vocabulary(("我",), {})
    vocabulary.save(other / "vocabulary.json")
    for split in SPLITS:
        with SplitWriter(other, split, vocabulary) as writer:
            writer.finish()
    with pytest.raises(UserError, match=f"{other}: made with another vocabulary than {one}; prepare its text again"):
        merge_datasets([one, other], tmp_path / "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_damage_and_an_output_that_is_there_leave_nothing(tmp_path: Path, write_marked: WriteMarked) -> None:
    folder = write_marked(tmp_path / "data", 1)
    with pytest.raises(UserError, match="data: this exists already"):
        merge_datasets([folder], folder)
    (folder / "test.marks.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"test\.marks\.bin: holds 0 bytes"):
        merge_datasets([folder, folder], tmp_path / "all")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    with pytest.raises(UserError, match="cannot write here"):
        merge_datasets([write_marked(tmp_path / "more", 2)], folder / "train.json" / "all")
