from pathlib import Path

import numpy as np
import pytest

from hzlm.data.dataset import Dataset, Record, SplitWriter
from hzlm.tools.datasets.show import LEGEND, show_records, spread
from hzlm.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("中，行"), {"中": {"zhong1": 1}, "行": {"xing2": 1, "hang2": 1}})


def test_columns_begin_below_each_other(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path / "vocabulary.json")
    tokens = ["syl:zhong1", "syl:xing2", "lit:，"]
    ids = np.array([VOCABULARY.id_of(token) for token in tokens])
    with SplitWriter(tmp_path, "train", VOCABULARY) as writer:
        writer.add(Record(VOCABULARY.encode("中行，"), ids, np.array([1 + 4, 2 + (1 << 3), 1], np.uint8)))
        writer.add(Record(np.full(30, 3), np.full(30, 3), np.zeros(30, np.uint8)))
        writer.finish()
    lines = show_records(Dataset.open(tmp_path, "train"), [0, 1]).splitlines()
    assert lines[:4] == [
        "train 0: 3 positions",
        "  中     行      ，",
        "  zhong1 xing2   -",
        "  wf     a=hang2 w",
    ]
    assert lines[4] == "train 1: 30 positions, 10 more"
    assert lines[5].split() == ["[UNK]"] * 20
    assert lines[-1] == LEGEND


@pytest.mark.parametrize(
    ("count", "wanted", "expected"), [(0, 10, []), (1, 10, [0]), (3, 10, [0, 1, 2]), (101, 3, [0, 50, 100])]
)
def test_numbers_are_spread_from_the_first_to_the_last(count: int, wanted: int, expected: list[int]) -> None:
    assert spread(count, wanted) == expected
