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


def save_vocabulary(lines: list[list[str]], folder: Path) -> None:
    """A vocabulary of every character there is."""
    Vocabulary(tuple(sorted({character for row in lines for text in row for character in text})), {}).save(
        folder / "vocabulary.json"
    )


def stored(folder: Path, split: str) -> list[tuple[list[str], str]]:
    """The sources, as typed tokens, and the targets of a split."""
    dataset = Dataset.open(folder, split)
    records = [dataset.record(i) for i in range(len(dataset))]
    tokens = dataset.vocabulary.tokens
    return [([tokens[i] for i in record.reading], dataset.vocabulary.decode(record.hanzi)) for record in records]


@pytest.mark.parametrize("name", ["csc_sighan15_train.tsv", "csc_ecspell_law_train.tsv"])
def test_training_files_of_corrections(name: str, tmp_path: Path) -> None:
    lines = rows(name)
    save_vocabulary(lines, tmp_path)
    make_pairs([SHARED / name], tmp_path, tmp_path / "out")
    assert list(check_dataset(tmp_path / "out")) == []
    found = [pair for split in SPLITS for pair in stored(tmp_path / "out", split)]
    assert sorted(found) == sorted(([f"lit:{character}" for character in source], target) for source, target in lines)


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

    kept = [target for _, target in stored(tmp_path / "out", "train")]
    assert not any(map(stands, kept))
    assert sum(stands(target) for _, target in lines) > 800
    assert not {target for _, target in rows(test.name) if len(target) > 12} & set(kept)


def test_readings(tmp_path: Path) -> None:
    """Of the hanzi alone, with the 儿 that ends a syllable as r5."""
    lines = rows("p2h_hsk.tsv")
    save_vocabulary(lines, tmp_path)
    make_pairs([SHARED / "p2h_hsk.tsv"], tmp_path, tmp_path / "out", dev=0.0)
    found = stored(tmp_path / "out", "train")
    assert [target for _, target in found] == [target for _, target in lines]
    for (tokens, _), (readings, _) in zip(found, lines, strict=True):
        syllables = [token.removeprefix("syl:") for token in tokens if token.startswith("syl:")]
        assert syllables == [{"r5": "er5"}.get(one, one.replace("u:", "v")) for one in readings.split()]
