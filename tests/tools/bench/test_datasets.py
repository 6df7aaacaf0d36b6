from pathlib import Path

import numpy as np
import pytest

from hzlm.data.indexed import IndexedWriter
from hzlm.tools.bench import datasets
from hzlm.tools.bench.datasets import build_vs_megatron, read_vs_megatron

pytest.importorskip("megatron.core", reason="needs megatron-core")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """5,000 documents of three sentences, as the one stream of a dataset that is measured."""
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 60, 15_000)
    with IndexedWriter(folder / "train.hanzi", np.uint16) as writer:
        writer.add_many(generator.integers(0, 9_000, lengths.sum()), lengths, np.arange(3, 15_001, 3))
        writer.finish()
    return folder


def test_both_are_measured_and_leave_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "ROUNDS", 2)
    monkeypatch.setattr(datasets, "READS", 5_000)
    monkeypatch.setattr(datasets, "SENTENCES", 1_000)
    assert build_vs_megatron(folder) > 0
    assert read_vs_megatron(folder) > 0
    assert list(folder.parent.iterdir()) == [folder]


def test_files_that_differ_are_no_measurement(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = datasets._build_ours
    monkeypatch.setattr(datasets, "ROUNDS", 1)
    monkeypatch.setattr(datasets, "_build_ours", lambda prefix, numbers, *index: build(prefix, numbers + 1, *index))
    with pytest.raises(AssertionError, match=r"ours\.bin and theirs\.bin"):
        build_vs_megatron(folder)
