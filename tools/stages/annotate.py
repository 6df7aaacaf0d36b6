"""The stage that reads the sentences: words, readings, second readings; and counts what a vocabulary is built of."""

import heapq
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from hzlm.data.dataset import SPLITS
from hzlm.pinyin import TONED_SYLLABLES
from hzlm.tools.annotation.annotate import Annotation, Annotator
from hzlm.tools.count_text import RunCounts, count_pairs
from hzlm.tools.stages.duplicates import SENTENCES, found_in
from hzlm.tools.stages.records import read_records
from hzlm.tools.stages.sentences import FILE, KEYS, digest_of, split_of
from hzlm.tools.stages.tally import Tally
from hzlm.tools.stages.work import Stage, Work

DUPLICATE = "duplicate sentence"
NOT_ALIGNED = "a hanzi has no reading"
SAMPLES = 200
"""How many second readings a report shows."""
ANNOTATED_FILE = "annotated.safetensors"
COUNTS_FILE = "counts.safetensors"
RUNS_FILE = "runs.json"


class _Columns:
    """The annotated sentences of a chunk, gathered to be written as arrays."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.annotations: list[Annotation] = []
        self.rows: list[tuple[int, bool, int, int]] = []
        """Of each sentence: ordinal of its split, whether it follows the one before, document, ordinal of the file."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Streams over all characters, and one number a sentence of what is known of it as a whole."""
        codes = np.frombuffer("".join(self.sentences).encode("utf-32-le"), "<i4")
        rows = np.array(self.rows, np.int32).reshape(-1, 4)
        return {
            "codes": codes,
            "readings": _join([annotation.readings for annotation in self.annotations], np.int16),
            "word_starts": _join([annotation.word_starts for annotation in self.annotations], np.uint8),
            "second": _join([annotation.second for annotation in self.annotations], np.int16),
            "lengths": np.array([len(sentence) for sentence in self.sentences], np.int32),
            **{name: rows[:, i].copy() for i, name in enumerate(("splits", "follows", "documents", "sources"))},
        }


def annotate(work: Work, task: int, folder: Path) -> Tally:
    """Reads the sentences of a chunk.

    Makes annotated.safetensors (`_Columns.arrays`), and of the training split counts.safetensors (how often each
    character has each reading) and runs.json (the runs that are not hanzi).
    """
    tally = Tally()
    annotator = load_annotator(work.config.annotation.dictionaries)
    columns = _Columns()
    samples: list[tuple[str, str, int, str, str]] = []
    runs = RunCounts()
    last: tuple[int, int, str] | None = None
    for document, place, source, split, sentence in _distinct_sentences(work, task, tally):
        annotation = annotator.annotate(sentence)
        if annotation is None:
            tally.drop(NOT_ALIGNED, len(sentence))
            continue
        tally.kept.count(len(sentence))
        follows = last == (document, place - 1, split)
        last = document, place, split
        columns.sentences.append(sentence)
        columns.annotations.append(annotation)
        columns.rows.append((SPLITS.index(split), follows, document, source))
        if split == "train":
            runs.add(sentence)
        samples += _second_readings(sentence, annotation)
        if len(samples) > 2 * SAMPLES:
            samples = heapq.nsmallest(SAMPLES, samples)
    arrays = columns.arrays()
    save_file(arrays, folder / ANNOTATED_FILE)
    is_train = np.repeat(arrays["splits"] == SPLITS.index("train"), arrays["lengths"])
    pairs, counts = count_pairs(arrays["codes"][is_train], arrays["readings"][is_train])
    save_file({"pairs": pairs, "counts": counts}, folder / COUNTS_FILE)
    runs.save(folder / RUNS_FILE)
    tally.made["second_readings"] = int((arrays["second"] >= 0).sum())
    tally.made["samples"] = heapq.nsmallest(SAMPLES, samples)
    return tally


@lru_cache(maxsize=1)
def load_annotator(dictionaries: tuple[Path, ...]) -> Annotator:
    """The annotator, made once in a process."""
    return Annotator(dictionaries)


def _distinct_sentences(work: Work, task: int, tally: Tally) -> Iterator[tuple[int, int, int, str, str]]:
    """(document, place in it, file, split, sentence) of what the corpus did not have before."""
    chunk = work.chunks[task]
    config = work.config.split
    found = set(found_in(work, SENTENCES, chunk).get(KEYS, np.empty(0)).tolist())
    item = 0
    for document, (source, given, sentences) in enumerate(read_records(work.task_folder("sentences", task) / FILE)):
        for place, sentence in enumerate(sentences):
            if sentence is None:
                continue
            tally.read.count(len(sentence))
            if item in found:
                tally.drop(DUPLICATE, len(sentence))
            else:
                yield document, place, source, given or split_of(sentence, config.dev, config.test), sentence
            item += 1


def _second_readings(sentence: str, annotation: Annotation) -> Iterator[tuple[str, str, int, str, str]]:
    """(digest, sentence, place, reading, second reading) where tools disagree; the digest makes samples fair."""
    for place in np.flatnonzero(annotation.second >= 0).tolist():
        first, second = (TONED_SYLLABLES[stream[place]] for stream in (annotation.readings, annotation.second))
        yield digest_of(f"{place}{sentence}").hex()[:16], sentence, place, first, second


def _join(parts: list[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate(parts, dtype=dtype, casting="unsafe") if parts else np.empty(0, dtype)


ANNOTATE = Stage("annotate", ("annotation",), lambda work: len(work.chunks), annotate)
