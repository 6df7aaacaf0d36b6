import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.errors import UserError
from hzlm.pinyin import TONED_SYLLABLES, is_hanzi
from hzlm.tools import count_text
from hzlm.tools.count_text import LONGEST_RUN, RunCounts, count_pairs, merge_counts, unpack_counts

Pair = tuple[str, int]
TEXTS = st.lists(
    st.lists(st.tuples(st.sampled_from("中国a，𠮷"), st.integers(-1, len(TONED_SYLLABLES) - 1))), max_size=8
)


@pytest.mark.parametrize("at_once", [3, 1 << 22])
@given(texts=TEXTS)
def test_pairs_are_counted_over_all_texts(at_once: int, texts: list[list[Pair]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count_text, "_AT_ONCE", at_once)
        counted = [
            count_pairs(np.array([ord(c) for c, _ in text], np.int32), np.array([r for _, r in text], np.int16))
            for text in texts
        ]
    pairs, counts = merge_counts(counted)
    assert (pairs.dtype, counts.dtype) == (np.int64, np.int64)
    assert pairs.tolist() == sorted(set(pairs.tolist()))
    expected = Counter(
        (character, TONED_SYLLABLES[reading] if reading >= 0 else None) for text in texts for character, reading in text
    )
    assert unpack_counts(pairs, counts) == expected


def test_counts_beyond_32_bits() -> None:
    pairs, counts = np.array([7], np.int64), np.array([1 << 61], np.int64)
    assert merge_counts([(pairs, counts), (pairs, counts)])[1].tolist() == [1 << 62]


@given(st.lists(st.text("aB1é中，_ ", max_size=50)))
def test_runs(texts: list[str]) -> None:
    runs = RunCounts()
    for text in texts:
        runs.add(text)
    expected: Counter[str] = Counter()
    for text in texts:
        parted = "".join(c if c.isalnum() and not is_hanzi(c) else " " for c in text).split()
        expected.update(run for run in parted if len(run) <= LONGEST_RUN)
    assert runs.counts == expected


def test_memory_stays_and_what_is_frequent_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count_text, "MOST_RUNS", 100)
    texts = [f"r{number} " * (5 if number < 20 else 1) for number in range(2000)]
    random.Random(1).shuffle(texts)
    runs, halves = RunCounts(), [RunCounts(), RunCounts()]
    for place, text in enumerate(texts):
        runs.add(text)
        halves[place % 2].add(text)
        assert len(runs.counts) <= 200
    halves[0].merge(halves[1])
    for counted in (runs, halves[0]):
        assert len(counted.counts) <= 200
        assert all(counted.counts[f"r{number}"] == 5 for number in range(20))


def test_runs_on_disk(tmp_path: Path) -> None:
    runs = RunCounts()
    runs.add("GPT4，Café GPT4")
    runs.save(tmp_path / "runs.json")
    assert RunCounts.load(tmp_path / "runs.json").counts == {"GPT4": 2, "Café": 1}


@pytest.mark.parametrize("content", ["[]", '{"a": "1"}', "{"])
def test_damaged_runs(tmp_path: Path, content: str) -> None:
    (tmp_path / "runs.json").write_text(content, "utf-8")
    with pytest.raises(UserError, match=r"runs\.json.*prepare the dataset again"):
        RunCounts.load(tmp_path / "runs.json")
