"""What the tools for datasets make of pairs."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from hzlm.data.dataset import SPLITS, STREAMS, Dataset
from hzlm.errors import UserError
from hzlm.stored_files import describe_file
from hzlm.tools.datasets.check import check_dataset
from hzlm.tools.datasets.export import export_jsonl
from hzlm.tools.datasets.inspect import inspect_dataset
from hzlm.tools.datasets.merge import merge_datasets
from hzlm.tools.datasets.show import PAIRS_LEGEND, show_records
from hzlm.tools.datasets.split import split_dataset
from hzlm.tools.pairs import make_pairs
from hzlm.vocabulary import Vocabulary

WriteDataset = Callable[[Path, Sequence[str]], Path]
VOCABULARY = Vocabulary(tuple("我爱，！门"), {"我": {"wo3": 1}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of three pairs to train on, of text and of pinyin, 7 positions in all."""
    VOCABULARY.save(tmp_path / "vocabulary.json")
    (tmp_path / "text.tsv").write_text("我哎，\t我爱，\n门\t门\n", "utf-8")
    (tmp_path / "pinyin.tsv").write_text("wo ai4\t我！爱\n", "utf-8")
    make_pairs([tmp_path / "text.tsv", tmp_path / "pinyin.tsv"], tmp_path, tmp_path / "out", dev=0.0)
    return tmp_path / "out"


def test_what_is_shown(folder: Path) -> None:
    sources = "given: 57.14 % of 7 positions carry the target, 28.57 % a syllable, 14.29 % another character"
    assert inspect_dataset(folder, 16).splitlines()[-1] == f"sources    {sources}"
    shown = show_records(Dataset.open(folder, "train"), [0, 2]).splitlines()
    assert [line.split() for line in shown[1:3]] == [["我", "爱", "，"], ["-", "[UNK]", "-"]]
    assert [line.split() for line in shown[4:6]] == [["我", "！", "爱"], ["wo", "-", "ai4"]]
    assert shown[6:] == [PAIRS_LEGEND]


def test_what_is_exported(folder: Path) -> None:
    exported = io.StringIO()
    export_jsonl(folder, "train", exported)
    first, _, last = map(json.loads, exported.getvalue().splitlines())
    assert first == {"text": "我爱，", "positions": ["我", "爱", "，"], "source": ["我", "□", "，"], "document": 0}
    assert last == {
        "text": "我！爱",
        "positions": ["我", "！", "爱"],
        "source": ["syl:wo", "！", "syl:ai4"],
        "document": 2,
    }


def test_parts_merge_into_the_same_pairs(folder: Path, tmp_path: Path) -> None:
    parts = split_dataset(folder, 2, tmp_path / "parts")
    assert all(Dataset.open(part, split).is_pairs for part in parts for split in SPLITS)
    merge_datasets(parts, tmp_path / "merged")
    for split in SPLITS:
        for name in (f"{split}.json", *(f"{split}.{stream}.{end}" for stream in STREAMS for end in ("bin", "idx"))):
            assert (tmp_path / "merged" / name).read_bytes() == (folder / name).read_bytes()


def test_pairs_and_annotated_text_are_not_merged(tmp_path: Path, write_dataset: WriteDataset) -> None:
    annotated, pairs = write_dataset(tmp_path / "annotated", ["我爱"]), tmp_path / "pairs"
    (tmp_path / "pairs.tsv").write_text("我\t我\n", "utf-8")
    make_pairs([tmp_path / "pairs.tsv"], annotated, pairs, dev=0.0)
    before = sorted(tmp_path.iterdir())
    for one, other in ((annotated, pairs), (pairs, annotated)):
        with pytest.raises(UserError, match=f"{other}: cannot be merged with {one}: one holds pairs") as caught:
            merge_datasets([one, other], tmp_path / "all")
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("stream", "value", "message"),
    [
        ("hanzi", VOCABULARY.toned_start, "1 ids that are no targets of the vocabulary"),
        ("reading", VOCABULARY.pad_id, "1 ids that no given source has"),
        ("reading", VOCABULARY.mask_id, "1 ids that no given source has"),
        ("reading", VOCABULARY.target_start - 1, "1 ids that no given source has"),
        ("reading", VOCABULARY.size, "1 ids that no given source has"),
        ("marks", 1, "1 marks, of which pairs have none"),
    ],
)
def test_ids_that_cannot_be_are_named_with_their_place(folder: Path, stream: str, value: int, message: str) -> None:
    assert list(check_dataset(folder)) == []
    path = folder / f"train.{stream}.bin"
    numbers = np.fromfile(path, "u1" if stream == "marks" else "<u2")
    numbers[5] = value
    numbers.tofile(path)
    info = json.loads((folder / "train.json").read_text())
    info["files"][path.name] = describe_file(path)
    (folder / "train.json").write_text(json.dumps(info))
    where = "the first in sentence 2, position 1; prepare the dataset again"
    assert list(check_dataset(folder)) == [f"{path}: {message}, {where}"]


def test_pairs_that_are_called_annotated_are_found(folder: Path) -> None:
    info = json.loads((folder / "train.json").read_text())
    assert info.pop("source") == "given"
    (folder / "train.json").write_text(json.dumps(info))
    (fault, *_) = check_dataset(folder)
    assert "2 ids that are neither syllables nor the character itself, the first in sentence 0, position 1" in fault
