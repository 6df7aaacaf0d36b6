"""The stage that makes documents into sentences: without duplicate documents, and without what test sets hold."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from hzlm.pinyin import HANZI_RANGES
from hzlm.tools.decontaminate import DecontaminateConfig, TestSet
from hzlm.tools.duplicates.key_files import write_keys
from hzlm.tools.split import split_text
from hzlm.tools.stages.duplicates import DOCUMENTS, found_in
from hzlm.tools.stages.records import RecordWriter, read_records
from hzlm.tools.stages.tally import Tally
from hzlm.tools.stages.work import Stage, Work

DUPLICATE = {"exact": "duplicate document", "near": "nearly a duplicate document"}
"""Kind of key -> what a document is dropped as."""
BROKEN = "broken encoding"
TOO_LONG = "too long, and nowhere to cut"
NO_HANZI = "no hanzi"
REPLACEMENT = "\ufffd"
FILE = "sentences.jsonl.zst"
KEYS = "sentence"
"""Kind of the keys by which equal sentences are found, and the stem of the file that holds them."""

_HANZI = re.compile(f"[{HANZI_RANGES}]")
_NO_LETTERS = re.compile(r"[\W_]+")


def make_sentences(work: Work, task: int, folder: Path) -> Tally:
    """Cuts the documents of a chunk into sentences.

    Makes sentences.jsonl.zst, a record [ordinal of the file, split or null, sentences] a document, with null in the
    place of each sentence that is left out; and the key file of the sentences.
    """
    tally = Tally()
    config = work.config
    documents = list(_distinct_documents(work, task, tally))
    units = [list(split_text(text, config.sentences.unit, config.sentences.max_length)) for _, text in documents]
    known = iter(_known_to_tests(units, config.decontaminate))
    keys: list[bytes] = []
    with RecordWriter(folder / FILE) as writer:
        for (source, text), of_document in zip(documents, units, strict=True):
            tally.removed += len(text) - sum(map(len, of_document))
            sentences = _select(of_document, known, config.sentences.max_length, tally)
            if any(sentences):
                split = None if config.split.by == "sentence" else split_of(text, config.split.dev, config.split.test)
                writer.add([source, split, sentences])
                keys += [sentence_key(sentence) for sentence in sentences if sentence is not None]
    tally.made["keys"] = {}
    if not config.sentences.duplicates:
        numbers = np.frombuffer(b"".join(keys), ">u8").astype(np.uint64)
        items = np.arange(len(numbers), dtype=np.uint32)
        tally.made["keys"][KEYS] = write_keys(folder / f"{KEYS}.npy", numbers, items)
    return tally


def sentence_key(sentence: str) -> bytes:
    """Eight bytes, equal for sentences with the same letters and digits, whatever their punctuation."""
    return digest_of(_NO_LETTERS.sub("", sentence))[:8]


def digest_of(text: str) -> bytes:
    """SHA-256."""
    return hashlib.sha256(text.encode()).digest()


def split_of(text: str, dev: float, test: float) -> str:
    """The split of a text, by its SHA-256 alone."""
    value = int.from_bytes(digest_of(text)[:4])
    share = value % 100 / 100 + value // 100 % 100 / 10_000
    return "test" if share >= 1 - test else "dev" if share >= 1 - test - dev else "train"


def _distinct_documents(work: Work, task: int, tally: Tally) -> Iterator[tuple[int, str]]:
    """File and text of the documents that the corpus did not have before."""
    chunk = work.chunks[task]
    found = {kind: set(items.tolist()) for kind, items in sorted(found_in(work, DOCUMENTS, chunk).items())}
    for item, (source, text) in enumerate(read_records(work.chunk_path(chunk, "jsonl.zst"))):
        tally.read.count(len(text))
        kind = next((kind for kind, items in found.items() if item in items), None)
        if kind is None:
            yield source, text
        else:
            tally.drop(DUPLICATE[kind], len(text))


def _known_to_tests(units: Sequence[Sequence[str]], config: DecontaminateConfig) -> list[str | None]:
    """For each sentence of all documents the name of the test file in which it stands, or None."""
    if not config.files:
        return [None] * sum(map(len, units))
    names = {number: path.name for number, path in enumerate(config.files)}
    return [names.get(number) for number in load_test_set(config).find_files(units).tolist()]


@lru_cache(maxsize=1)
def load_test_set(config: DecontaminateConfig) -> TestSet:
    """The test set, loaded once in a process."""
    return TestSet.load(config)


def _select(units: Sequence[str], known: Iterator[str | None], max_length: int, tally: Tally) -> list[str | None]:
    """The sentences of a document, None in the place of each that is left out; takes as many names from `known`."""
    selected: list[str | None] = []
    for unit, test in zip(units, known, strict=False):
        if REPLACEMENT in unit:
            cause = BROKEN
        elif len(unit) > max_length:
            cause = TOO_LONG
        elif not _HANZI.search(unit):
            cause = NO_HANZI
        elif test is not None:
            cause = f"in the test file {test}"
        else:
            tally.kept.count(len(unit))
            selected.append(unit)
            continue
        tally.drop(cause, len(unit))
        selected.append(None)
    return selected


MAKE_SENTENCES = Stage(
    "sentences", ("sentences", "split", "decontaminate"), lambda work: len(work.chunks), make_sentences
)
