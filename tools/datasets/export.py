"""A dataset -> lines of JSON, one a sentence, for whatever else shall read it."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from hzlm.data.dataset import Dataset, Record
from hzlm.data.marks import MARK_WORD_START
from hzlm.pinyin import SYLLABLE
from hzlm.progress import Progress
from hzlm.vocabulary import Vocabulary


def export_jsonl(folder: Path, split: str, file: TextIO) -> None:
    """Writes the sentences of a split, each as one JSON object.

    `text`; `readings`, one for each position, as zhong1, or null where it has none; `words`, which are the text in
    pieces; `document`, its number from 0.

    Raises:
        UserError: the dataset is damaged.
    """
    dataset = Dataset.open(folder, split)
    with Progress(len(dataset), "exporting", "sentences") as bar:
        for number, document in _numbered(dataset):
            entry = describe_record(dataset.record(number), dataset.vocabulary)
            file.write(json.dumps({**entry, "document": document}, ensure_ascii=False) + "\n")
            bar.advance()


def describe_record(record: Record, vocabulary: Vocabulary) -> dict[str, Any]:
    """What a record says, as `export_jsonl` writes it, without the document."""
    tokens = vocabulary.tokens
    readings = [tokens[i].removeprefix(SYLLABLE) if is_toned(i) else None for i in record.reading.tolist()]
    starts = np.flatnonzero(record.marks & MARK_WORD_START).tolist()
    borders = [0, *(start for start in starts if start > 0), len(record.hanzi)]
    words = [vocabulary.decode(record.hanzi[start:end]) for start, end in pairwise(borders)]
    return {"text": vocabulary.decode(record.hanzi), "readings": readings, "words": words}


def is_toned(token_id: int) -> bool:
    """Whether an id is that of a syllable with tone."""
    return Vocabulary.toned_start <= token_id < Vocabulary.key_start


def _numbered(dataset: Dataset) -> Iterator[tuple[int, int]]:
    """Each sentence's number, and its document's."""
    document = 0
    for number in range(len(dataset)):
        while dataset.documents.item(document + 1) <= number:
            document += 1
        yield number, document
