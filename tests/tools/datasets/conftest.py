"""Datasets with every mark, and as many documents as one likes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Record, SplitWriter
from hzlm.data.marks import MARK_AMBIGUOUS, MARK_FOLLOWS, MARK_WORD_START, NO_SECOND, SecondReadings
from hzlm.vocabulary import Vocabulary

READINGS = {"行": "xing2 hang2", "的": "de5 di2 di4", "中": "zhong1 zhong4", "国": "guo2", "我": "wo3"}
COUNTS = {"train": 12, "dev": 2, "test": 3}
"""Documents of each split."""

WriteMarked = Callable[[Path, int], Path]


def make_vocabulary(hanzi: str = "行的中国我") -> Vocabulary:
    """A comma and these hanzi."""
    return Vocabulary((*hanzi, "，"), {one: dict.fromkeys(READINGS[one].split(), 1) for one in hanzi})


def make_document(vocabulary: Vocabulary, generator: np.random.Generator) -> list[Record]:
    """One to four sentences of 1 to 12 characters with random marks; all but the first follow the one before them."""
    second_readings = SecondReadings(vocabulary)
    records = []
    for number in range(generator.integers(1, 5)):
        text = "".join(generator.choice([*vocabulary.characters, "龘"], generator.integers(1, 13)))
        hanzi = vocabulary.encode(text)
        reading, second = hanzi.copy(), np.full(len(hanzi), NO_SECOND)
        marks = MARK_WORD_START * generator.integers(0, 2, len(hanzi))
        for place, character in enumerate(text):
            known = [vocabulary.id_of(f"syl:{name}") for name in READINGS.get(character, "").split()]
            if known:
                reading[place] = generator.choice(known)
                marks[place] += MARK_AMBIGUOUS * (len(known) > 1)
                others = [one for one in known if one != reading[place]]
                second[place] = generator.choice([NO_SECOND, *others])
        marks[0] |= MARK_FOLLOWS * (number > 0) | MARK_WORD_START
        records.append(Record(hanzi, reading, marks.astype(np.uint8) + second_readings.to_marks(hanzi, second)))
    return records


@pytest.fixture(scope="session")
def write_marked() -> WriteMarked:
    """A function (folder, seed) -> folder, now a dataset of random records."""

    def write(folder: Path, seed: int) -> Path:
        folder.mkdir(parents=True)
        vocabulary, generator = make_vocabulary(), np.random.default_rng(seed)
        vocabulary.save(folder / VOCABULARY_FILE)
        for split in SPLITS:
            with SplitWriter(folder, split, vocabulary) as writer:
                for _ in range(COUNTS[split]):
                    for record in make_document(vocabulary, generator):
                        writer.add(record)
                    writer.end_document()
                writer.finish()
        return folder

    return write


@pytest.fixture(scope="session")
def marked(tmp_path_factory: pytest.TempPathFactory, write_marked: WriteMarked) -> Path:
    """A dataset that no test changes."""
    return write_marked(tmp_path_factory.mktemp("marked") / "data", 0)
