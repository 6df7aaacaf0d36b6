"""Blends: what share each dataset gets, and which datasets do not go together."""

import shutil
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hzlm.data.batches import BatchReader
from hzlm.data.blend import Blend
from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Dataset, Record, SplitWriter
from hzlm.data.sampling import RowOrder
from hzlm.data_config import DataConfig
from hzlm.errors import UserError
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]
HANZI = "我爱北京是事十市行形星银音中重"
SHORT = [a + b for a in HANZI for b in HANZI]
"""225 sentences of 2 characters."""
LONG = [text * 4 for text in SHORT[:100]]
"""100 sentences of 8 characters."""


@pytest.fixture
def folders(tmp_path: Path, write_dataset: Write) -> tuple[Path, Path]:
    return write_dataset(tmp_path / "short", SHORT), write_dataset(tmp_path / "long", LONG)


def make_config(path: Any, **fields: Any) -> DataConfig:
    return DataConfig.model_validate({"path": path, "row_length": 16, "views": {"pinyin": 1.0}, **fields}, strict=False)


def shares_of(blend: Blend) -> dict[str, float]:
    return {dataset.folder.name: share for dataset, share in zip(blend.datasets, blend.position_shares, strict=True)}


def test_one_folder_is_a_blend_of_one(folders: tuple[Path, Path]) -> None:
    blend = Blend.open(make_config(folders[0]), "train")
    assert (shares_of(blend), blend.sample_shares) == ({"short": 1.0}, [1.0])
    dataset = Dataset.open(folders[0], "train")
    assert blend.fingerprints == {str(folders[0]): dataset.fingerprint}
    assert blend.vocabulary.fingerprint == dataset.vocabulary.fingerprint


@pytest.mark.parametrize(
    ("weights", "temperature", "short"),
    [
        ((1, 1), 1.0, 450 / 1250),
        ((2, 1), 1.0, 900 / 1700),
        ((1, 1), 2.0, 450**0.5 / (450**0.5 + 800**0.5)),
        ((3, 1), 1e9, 3 / 4),
    ],
)
def test_shares_of_the_positions_by_weight_and_temperature(
    folders: tuple[Path, Path], weights: tuple[float, float], temperature: float, short: float
) -> None:
    config = make_config(dict(zip(folders, weights, strict=True)), temperature=temperature)
    blend = Blend.open(config, "train")
    assert shares_of(blend) == pytest.approx({"short": short, "long": 1 - short})
    positions = {"short": 0, "long": 0}
    for samples, _ in islice(RowOrder(blend, 16, seed=1).rows(0), 1000):
        for number in samples.datasets.tolist():
            name = blend.datasets[number].folder.name
            positions[name] += {"short": 2, "long": 8}[name]
    assert positions["short"] / sum(positions.values()) == pytest.approx(short, abs=0.01)


def test_without_weights_every_sentence_is_read_equally_often(folders: tuple[Path, Path]) -> None:
    blend = Blend.open(make_config(dict.fromkeys(folders, 1.0)), "train")
    assert dict(zip((d.folder.name for d in blend.datasets), blend.sample_shares, strict=True)) == pytest.approx(
        {"short": 225 / 325, "long": 100 / 325}
    )


def test_names_and_their_order_change_nothing(folders: tuple[Path, Path], tmp_path: Path) -> None:
    moved = [shutil.copytree(folder, tmp_path / name) for folder, name in zip(folders, "ab", strict=True)]
    config, other = make_config(dict.fromkeys(folders, 1.0)), make_config(dict.fromkeys(reversed(moved), 1.0))
    one, two = (
        [
            (blend.datasets[number].record(record).hanzi.tolist())
            for row, _ in islice(RowOrder(blend, 16, seed=1).rows(0), 50)
            for number, record in zip(row.datasets.tolist(), row.records.tolist(), strict=True)
        ]
        for blend in (Blend.open(config, "train"), Blend.open(other, "train"))
    )
    assert one == two


def test_different_vocabularies_are_refused(folders: tuple[Path, Path], vocabulary: Vocabulary, tmp_path: Path) -> None:
    other = Vocabulary((*vocabulary.characters, "新"), vocabulary.readings)
    folder = tmp_path / "other"
    folder.mkdir()
    other.save(folder / VOCABULARY_FILE)
    record = Dataset.open(folders[0], "train").record(0)
    with SplitWriter(folder, "train", other) as writer:
        writer.add(record)
        writer.finish()
    with pytest.raises(UserError) as caught:
        Blend.open(make_config({folders[0]: 1.0, folder: 1.0}), "train")
    text = str(caught.value)
    assert str(folders[0]) in text
    assert str(folder) in text
    assert "have different vocabularies; make one of them again with hzlm prepare --set vocabulary.path=" in text
    assert "\n" not in text


def test_the_same_dataset_twice_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(folders[0], tmp_path / "copy")
    with pytest.raises(UserError, match=r"data: .* are the same dataset; name it once, with more weight"):
        Blend.open(make_config({folders[0]: 1.0, copy: 1.0}), "train")


@pytest.fixture
def pairs(tmp_path: Path, vocabulary: Vocabulary) -> Path:
    """The sentence 我爱 with its second hanzi wrong, in each split."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    vocabulary.save(folder / VOCABULARY_FILE)
    for split in SPLITS:
        with SplitWriter(folder, split, vocabulary, is_pairs=True) as writer:
            right, given = vocabulary.encode("我爱"), vocabulary.encode("我是")
            writer.add(Record(right, given, np.zeros(2, np.uint8)))
            writer.end_document()
            writer.finish()
    return folder


def test_pairs_are_read_as_they_were_given(folders: tuple[Path, Path], pairs: Path, vocabulary: Vocabulary) -> None:
    config = make_config(folders[0], pairs={pairs: 225.0})
    blend = Blend.open(config, "train")
    assert shares_of(blend) == {"short": 0.5, "pairs": 0.5}
    batch = next(BatchReader(blend, config, seed=1).steps(0, 4, 1)).micro_batches[0]
    given = vocabulary.encode("我是").tolist()
    sources, targets = batch.tokens[0].flatten().tolist(), batch.targets.flatten().tolist()
    places = [at for at in range(0, len(sources), 2) if sources[at : at + 2] == given]
    assert len(places) > 3
    assert all(targets[at : at + 2] == vocabulary.encode("我爱").tolist() for at in places)
    only = Blend.open(make_config({}, pairs=pairs, views={}), "train")
    assert shares_of(only) == {"pairs": 1.0}


def test_a_dataset_in_the_place_of_the_other_kind_is_refused(folders: tuple[Path, Path], pairs: Path) -> None:
    with pytest.raises(UserError, match=r"data\.path: .*pairs is of hzlm pairs, without readings .* in data\.pairs"):
        Blend.open(make_config(pairs), "train")
    with pytest.raises(UserError, match=r"data\.pairs: .*short is a dataset of hzlm prepare; name it in data\.path"):
        Blend.open(make_config({}, pairs=folders[0], views={}), "train")


def test_an_empty_split_is_named_where_it_is_to_be_learned(
    folders: tuple[Path, Path], tmp_path: Path, write_dataset: Write
) -> None:
    """A dev split may be empty: it then has no part in the measurement."""
    empty = write_dataset(tmp_path / "empty", [])
    config = make_config({folders[0]: 1.0, empty: 2.0})
    with pytest.raises(UserError, match="empty: its train split is empty: prepare more text"):
        Blend.open(config, "train")
    assert shares_of(Blend.open(config, "dev")) == {"short": 1.0}
    also_empty = shutil.copytree(empty, tmp_path / "also")
    assert Blend.open(make_config({empty: 1.0, also_empty: 1.0}), "dev").datasets == []


def test_a_sentence_that_is_too_long_is_named_with_its_dataset(folders: tuple[Path, Path]) -> None:
    blend = Blend.open(make_config(dict.fromkeys(folders, 1.0)), "train")
    blend.check_lengths(8, "data.row_length")
    with pytest.raises(UserError, match=r"data\.row_length is 7, but .*long holds a sentence of 8 positions: raise it"):
        blend.check_lengths(7, "data.row_length")
