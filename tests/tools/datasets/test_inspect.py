import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hzlm.data.dataset import SPLITS, Dataset
from hzlm.data.marks import MARK_AMBIGUOUS, MARK_FOLLOWS, NO_SECOND, SecondReadings
from hzlm.tools.datasets.inspect import count_lengths, inspect_dataset, packing_efficiency


def test_what_is_shown_is_what_is_there(marked: Path) -> None:
    shown = inspect_dataset(marked, 16)
    for split in SPLITS:
        dataset = Dataset.open(marked, split)
        positions = dataset.info["positions"]
        size = sum(path.stat().st_size for path in marked.glob(f"{split}.*.*")) / 2**20
        row = (
            f"{split} {len(dataset.documents) - 1} {len(dataset)} {positions} {positions / len(dataset):.1f} {size:.1f}"
        )
        assert row.split() in [line.split() for line in shown.splitlines()]
    train = Dataset.open(marked, "train")
    second = SecondReadings(train.vocabulary)
    records = [train.record(i) for i in range(len(train))]
    characters = train.info["positions"]
    ambiguous = sum(int((record.marks & MARK_AMBIGUOUS > 0).sum()) for record in records)
    seconds = sum(int((second.of_marks(record.hanzi, record.marks) != NO_SECOND).sum()) for record in records)
    follows = sum(bool(record.marks[0] & MARK_FOLLOWS) for record in records)
    assert min(ambiguous, seconds, follows) > 0
    assert (
        f"{100 * ambiguous / characters:.2f} % of {characters:,} positions ambiguous, "
        f"{100 * seconds / characters:.2f} % with a second reading; "
        f"{100 * follows / len(train):.1f} % of {len(train)} sentences follow"
    ) in shown
    assert "6 targets, 5 of them with readings, 3 with several" in shown
    assert train.vocabulary.fingerprint[:16] in shown


def test_sentences_longer_than_a_row_are_counted(marked: Path) -> None:
    longer = int((Dataset.open(marked, "train").lengths > 4).sum())
    assert f"{longer:,} do not fit" in inspect_dataset(marked, 4)
    assert "do not fit" not in inspect_dataset(marked, 12)


def test_an_empty_split_can_be_looked_at(tmp_path: Path, write_dataset: Callable[[Path, Sequence[str]], Path]) -> None:
    shown = inspect_dataset(write_dataset(tmp_path / "data", []), 128)
    assert re.search(r"train +0 +0 +0 +0\.0", shown)
    assert "packing" not in shown


@given(st.lists(st.integers(0, 70) | st.sampled_from([2**15, 2**20 - 1, 2**31 - 1])))
def test_each_length_has_its_class(lengths: list[int]) -> None:
    classes = count_lengths(np.array(lengths, np.int32))
    assert sum(count for _, _, count in classes) == len(lengths)
    for shortest, longest, count in classes:
        assert (shortest, longest) == (0, 0) or longest == 2 * shortest - 1
        assert count == sum(shortest <= length <= longest for length in lengths) > 0


def test_packing_efficiency_of_what_is_known() -> None:
    assert packing_efficiency(np.array([5, 3, 8, 4, 4]), 8) == 1.0
    assert packing_efficiency(np.array([5, 5, 5]), 8) == 15 / 24
