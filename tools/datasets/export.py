"""A dataset -> lines of JSON, one a sentence, for whatever else shall read it."""

import json
import os
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from hzlm.data.dataset import Dataset, Record
from hzlm.data.indexed_layout import bin_path
from hzlm.data.indexed_streams import are_targets
from hzlm.data.marks import MARK_WORD_START
from hzlm.errors import UserError
from hzlm.pinyin import SYLLABLE
from hzlm.progress import Progress
from hzlm.stored_files import replacing
from hzlm.vocabulary import Vocabulary


def export_file(folder: Path, split: str, output: Path) -> None:
    """As `export_jsonl`, to a file that appears, or takes the place of the one before, when it is whole.

    Raises:
        UserError: the dataset is damaged, or the output cannot be such a file, which is found before any work.
    """
    parent = Path(os.path.realpath(output)).parent
    if output.exists() and not output.is_file():
        raise UserError(f"{output}: this is no regular file, and is not replaced; name a file as output")
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise UserError(f"{output}: cannot write this file; name one in a folder that is there as output")
    with replacing(output) as path, path.open("w", encoding="utf-8") as file:
        export_jsonl(folder, split, file)


def export_jsonl(folder: Path, split: str, file: TextIO) -> None:
    """Writes the sentences of a split, each as one JSON object.

    `text`; `positions`, what of the text stands at each position: its characters, unless the vocabulary has pieces;
    `readings`, one for each position, as zhong1, or null where it has none; `words`, which are the text in parts;
    `document`, its number from 0. Of pairs, in place of readings and words, `source`: what the given source has at each
    position, text or a syllable as syl:zhong1.

    Raises:
        UserError: the dataset is damaged.
    """
    dataset = Dataset.open(folder, split)
    with Progress(len(dataset), "exporting", "sentences") as bar:
        for number, document in _numbered(dataset):
            record = dataset.record(number)
            if not are_targets(record.hanzi, dataset.vocabulary).all():
                path = bin_path(dataset.streams["hanzi"].prefix)
                what = f"sentence {number} holds ids that are no targets of the vocabulary: damaged"
                raise UserError(f"{path}: {what}; copy it again, or prepare the dataset again")
            entry = (describe_pair if dataset.is_pairs else describe_record)(record, dataset.vocabulary)
            file.write(json.dumps({**entry, "document": document}, ensure_ascii=False) + "\n")
            bar.advance()


def describe_record(record: Record, vocabulary: Vocabulary) -> dict[str, Any]:
    """What a record says, as `export_jsonl` writes it, without the document."""
    tokens, positions = vocabulary.tokens, vocabulary.texts(record.hanzi)
    readings = [tokens[i].removeprefix(SYLLABLE) if is_toned(i) else None for i in record.reading.tolist()]
    starts = np.flatnonzero(record.marks & MARK_WORD_START).tolist()
    borders = [0, *(start for start in starts if start > 0), len(record.hanzi)]
    words = ["".join(positions[start:end]) for start, end in pairwise(borders)]
    return {"text": "".join(positions), "positions": positions, "readings": readings, "words": words}


def describe_pair(record: Record, vocabulary: Vocabulary) -> dict[str, Any]:
    """What a pair says, as `export_jsonl` writes it, without the document."""
    positions = vocabulary.texts(record.hanzi)
    source: list[str] = []
    for is_syllable, group in groupby(record.reading.tolist(), _is_syllable):
        ids = list(group)
        source += [vocabulary.tokens[i] for i in ids] if is_syllable else vocabulary.texts(ids)
    return {"text": "".join(positions), "positions": positions, "source": source}


def is_toned(token_id: int) -> bool:
    """Whether an id is that of a syllable with tone."""
    return Vocabulary.toned_start <= token_id < Vocabulary.key_start


def _is_syllable(token_id: int) -> bool:
    return Vocabulary.syllable_start <= token_id < Vocabulary.key_start


def _numbered(dataset: Dataset) -> Iterator[tuple[int, int]]:
    """Each sentence's number, and its document's."""
    document = 0
    for number in range(len(dataset)):
        while dataset.documents.item(document + 1) <= number:
            document += 1
        yield number, document
