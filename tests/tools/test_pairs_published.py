"""Published files of pairs, read as they are."""

import re
from pathlib import Path

import pytest

from hzlm.data.dataset import SPLITS, Dataset
from hzlm.tools.datasets.check import check_dataset
from hzlm.tools.pairs import make_pairs
from hzlm.vocabulary import Vocabulary

SHARED = Path(__file__).parents[2].parent / "shared" / "tests"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/tests")


def rows(name: str) -> list[list[str]]:
    """The columns of the lines of a file, its id left out."""
    return [line.split("\t")[1:] for line in (SHARED / name).read_text("utf-8").splitlines()]


def targets(folder: Path) -> list[str]:
    """Of the train split."""
    dataset = Dataset.open(folder, "train")
    return [dataset.vocabulary.decode(dataset.record(i).hanzi) for i in range(len(dataset))]


@pytest.mark.parametrize("name", ["csc_sighan15_train.tsv", "csc_ecspell_law_train.tsv"])
def test_training_files_of_corrections(name: str, tmp_path: Path) -> None:
    lines = rows(name)
    Vocabulary(tuple(sorted({character for row in lines for text in row for character in text})), {}).save(
        tmp_path / "vocabulary.json"
    )
    make_pairs([SHARED / name], tmp_path, tmp_path / "out")
    assert list(check_dataset(tmp_path / "out")) == []
    found = []
    for split in SPLITS:
        dataset = Dataset.open(tmp_path / "out", split)
        records = [dataset.record(i) for i in range(len(dataset))]
        found += [[dataset.vocabulary.decode(r.reading), dataset.vocabulary.decode(r.hanzi)] for r in records]
    assert sorted(found) == sorted(lines)


def test_a_training_file_without_the_sentences_of_its_test_file(tmp_path: Path) -> None:
    """ECSpell's hold the same sentences with other errors."""
    lines = rows("csc_ecspell_law_train.tsv")
    Vocabulary(tuple(sorted({character for row in lines for text in row for character in text})), {}).save(
        tmp_path / "vocabulary.json"
    )
    test = SHARED / "csc_ecspell_law_test.tsv"
    make_pairs([SHARED / "csc_ecspell_law_train.tsv"], tmp_path, tmp_path / "out", dev=0.0, test_files=[test])
    asked = ["".join(re.findall("[一-鿿]", text)) for row in rows(test.name) for text in row]
    windows = {text[i : i + 13] for text in asked for i in range(len(text) - 12)}

    def stands(target: str) -> bool:
        hanzi = "".join(re.findall("[一-鿿]", target))
        return any(hanzi[i : i + 13] in windows for i in range(len(hanzi) - 12))

    kept = targets(tmp_path / "out")
    assert not any(map(stands, kept))
    assert sum(stands(target) for _, target in lines) > 800
    assert not {target for _, target in rows(test.name) if len(target) > 12} & set(kept)


def test_readings(tmp_path: Path) -> None:
    """Of the hanzi alone, with the 儿 that ends a syllable as r5."""
    lines = rows("p2h_hsk.tsv")
    Vocabulary(tuple(sorted({character for _, target in lines for character in target})), {}).save(
        tmp_path / "vocabulary.json"
    )
    make_pairs([SHARED / "p2h_hsk.tsv"], tmp_path, tmp_path / "out", dev=0.0)
    assert targets(tmp_path / "out") == [target for _, target in lines]
