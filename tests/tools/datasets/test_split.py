from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from hzlm.data.dataset import SPLITS, Dataset
from hzlm.errors import UserError
from hzlm.tools.datasets.check import check_dataset
from hzlm.tools.datasets.merge import merge_datasets
from hzlm.tools.datasets.split import split_dataset
from hzlm.vocabulary import Vocabulary


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 12])
def test_the_parts_merge_to_the_same_files(marked: Path, tmp_path: Path, parts: int) -> None:
    folders = split_dataset(marked, parts, tmp_path / "parts")
    assert folders == sorted((tmp_path / "parts").iterdir())
    assert len(folders) == parts
    for folder in folders:
        assert list(check_dataset(folder)) == []
        assert len(Dataset.open(folder, "train")) > 0
    merge_datasets(folders, tmp_path / "again")
    for path in marked.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "parts"]


def test_parts_are_about_as_large(tmp_path: Path, write_marked: Callable[[Path, int], Path]) -> None:
    folders = [write_marked(tmp_path / f"data-{seed}", seed) for seed in range(1, 8)]
    merge_datasets(folders, tmp_path / "all")
    whole = Dataset.open(tmp_path / "all", "train")
    counts = [
        Dataset.open(part, "train").info["positions"] for part in split_dataset(tmp_path / "all", 4, tmp_path / "parts")
    ]
    borders = whole.documents.tolist()
    longest = max(int(whole.lengths[start:end].sum()) for start, end in pairwise(borders))
    assert sum(counts) == whole.info["positions"]
    assert all(abs(count - sum(counts) / 4) <= longest for count in counts)


def test_more_parts_than_documents_are_refused_before_any_work(
    marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Vocabulary, "save", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(UserError, match="12 documents to train on make no 13 parts; ask for fewer"):
        split_dataset(marked, 13, tmp_path / "parts")
    assert list(tmp_path.iterdir()) == []


def test_held_out_splits_of_few_documents_are_spread(marked: Path, tmp_path: Path) -> None:
    parts = split_dataset(marked, 6, tmp_path / "parts")
    for split in SPLITS[1:]:
        documents = [len(Dataset.open(part, split).documents) - 1 for part in parts]
        assert sum(documents) == len(Dataset.open(marked, split).documents) - 1
        assert max(documents) == 1
