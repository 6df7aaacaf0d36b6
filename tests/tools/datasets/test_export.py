import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from hzlm.data.dataset import SPLITS, Dataset, Record, SplitWriter
from hzlm.errors import UserError
from hzlm.pieces import Pieces
from hzlm.tools.datasets.export import export_file, export_jsonl
from hzlm.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("中国，行"), {"中": {"zhong1": 1}, "国": {"guo2": 1}, "行": {"xing2": 1, "hang2": 1}})


def test_sentences_as_json(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path / "vocabulary.json")
    with SplitWriter(tmp_path, "train", VOCABULARY) as writer:
        for text, tokens, marks in (
            ("中国，龘行", "syl:zhong1 syl:guo2 lit:， syl:da2 syl:hang2", [1, 0, 1, 8 + 1, 2]),
            ("行", "syl:xing2", [4]),
        ):
            ids = np.array([VOCABULARY.id_of(token) for token in tokens.split()])
            writer.add(Record(VOCABULARY.encode(text), ids, np.array(marks, np.uint8)))
            writer.end_document()
        writer.finish()
    file = io.StringIO()
    export_jsonl(tmp_path, "train", file)
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [
        {
            "text": "中国，□行",
            "positions": ["中", "国", "，", "□", "行"],
            "readings": ["zhong1", "guo2", None, "da2", "hang2"],
            "words": ["中国", "，", "□行"],
            "document": 0,
        },
        {"text": "行", "positions": ["行"], "readings": ["xing2"], "words": ["行"], "document": 1},
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_every_sentence_is_exported_with_its_document(marked: Path, split: str) -> None:
    file = io.StringIO()
    export_jsonl(marked, split, file)
    entries = [json.loads(line) for line in file.getvalue().splitlines()]
    dataset = Dataset.open(marked, split)
    texts = [dataset.vocabulary.decode(dataset.record(i).hanzi) for i in range(len(dataset))]
    assert [entry["text"] for entry in entries] == texts
    assert ["".join(entry["words"]) for entry in entries] == texts
    assert all(entry["positions"] == list(entry["text"]) for entry in entries)
    assert all(len(entry["readings"]) == len(entry["text"]) for entry in entries)
    counts = np.bincount([entry["document"] for entry in entries])
    assert counts.tolist() == np.diff(dataset.documents).tolist()


def test_with_pieces_the_positions_say_what_the_readings_are_of(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("行", "的"), {"行": {"hang2": 1}, "的": {"de5": 1}}, Pieces(("GDP", "G"), (-1, -9)))
    vocabulary.save(tmp_path / "vocabulary.json")
    # The piece GDP, a hanzi, and the three bytes of €, the last of which a word begins at.
    hanzi = vocabulary.encode("GDP行€")
    reading = hanzi.copy()
    reading[1] = vocabulary.id_of("syl:hang2")
    with SplitWriter(tmp_path, "train", vocabulary) as writer:
        writer.add(Record(hanzi, reading, np.array([1, 1, 1, 0, 1], np.uint8)))
        writer.finish()
    file = io.StringIO()
    export_jsonl(tmp_path, "train", file)
    assert json.loads(file.getvalue()) == {
        "text": "GDP行€",
        "positions": ["GDP", "行", "", "", "€"],
        "readings": [None, "hang2", None, None, None],
        "words": ["GDP", "行", "", "€"],
        "document": 0,
    }


def test_ids_that_opening_did_not_look_at_are_named(
    marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hzlm.data.indexed_streams._MOST_ID_BLOCKS", 0)
    folder = Path(shutil.copytree(marked, tmp_path / "data"))
    path = folder / "train.hanzi.bin"
    ids = np.fromfile(path, "<u2")
    ids[0] = Vocabulary.toned_start
    ids.tofile(path)
    with pytest.raises(UserError, match="sentence 0 holds ids that are no targets") as caught:
        export_jsonl(folder, "train", io.StringIO())
    assert str(path) in str(caught.value)


def lines_of(folder: Path, split: str) -> str:
    file = io.StringIO()
    export_jsonl(folder, split, file)
    return file.getvalue()


def test_what_a_link_leads_to_is_replaced(marked: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "dev.jsonl").write_text("old\n")
    (tmp_path / "link").symlink_to("far/dev.jsonl")
    export_file(marked, "dev", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "dev.jsonl").read_text("utf-8") == lines_of(marked, "dev")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dev.jsonl", "far", "link"]


@pytest.mark.parametrize("name", ["fifo", "link", "folder", "", "nowhere/x.jsonl", "file/x.jsonl", "dangling"])
def test_outputs_that_cannot_be_files_are_refused_before_any_work(
    marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("here\n")
    (tmp_path / "dangling").symlink_to("nowhere/x.jsonl")
    before = {path: path.lstat().st_mode for path in tmp_path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hzlm.tools.datasets.export.export_jsonl", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(UserError) as caught:
        export_file(marked, "dev", Path(name))
    assert str(caught.value).startswith(f"{Path(name)}: ")
    assert "partial" not in str(caught.value)
    assert {path: path.lstat().st_mode for path in tmp_path.rglob("*")} == before


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such dataset folder"):
        export_jsonl(tmp_path / "none", "train", io.StringIO())
