import io
import json
from pathlib import Path

import numpy as np
import pytest

from hzlm.data.dataset import SPLITS, Dataset, Record, SplitWriter
from hzlm.errors import UserError
from hzlm.tools.datasets.export import export_jsonl
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
            "readings": ["zhong1", "guo2", None, "da2", "hang2"],
            "words": ["中国", "，", "□行"],
            "document": 0,
        },
        {"text": "行", "readings": ["xing2"], "words": ["行"], "document": 1},
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
    assert all(len(entry["readings"]) == len(entry["text"]) for entry in entries)
    counts = np.bincount([entry["document"] for entry in entries])
    assert counts.tolist() == np.diff(dataset.documents).tolist()


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no such dataset folder"):
        export_jsonl(tmp_path / "none", "train", io.StringIO())
