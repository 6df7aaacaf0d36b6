"""The stages that find what the corpus had before: whole documents, equal or nearly so, and later single sentences.

Each task looks at one range of keys over the whole corpus, and writes what is to be left out: pairs of chunk and item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hzlm.tools.duplicates.search import duplicates_of, find_duplicates, key_ranges, write_duplicates
from hzlm.tools.stages.tally import Tally
from hzlm.tools.stages.work import Chunk, Stage, Work

DOCUMENTS = "document_duplicates"
SENTENCES = "sentence_duplicates"
_LIST = "found.npy"


@dataclass(frozen=True)
class KeyRange:
    """What a task looks at: the keys of one kind from `low` to below `high`."""

    kind: str
    low: int
    high: int


@lru_cache(maxsize=2)
def _ranges(work: Work, stage: str) -> list[KeyRange]:
    """The tasks of a search: ranges of all keys that the tasks of the stage it looks at wrote."""
    totals: dict[str, int] = {}
    made_by, tasks = ("read", len(work.pieces)) if stage == DOCUMENTS else ("sentences", len(work.chunks))
    for task in range(tasks):
        for kind, count in work.tally(made_by, task).made["keys"].items():
            totals[kind] = totals.get(kind, 0) + count
    return [KeyRange(kind, *bounds) for kind, total in sorted(totals.items()) for bounds in key_ranges(total)]


def _search(key_files: Sequence[Path], keys: KeyRange, folder: Path) -> Tally:
    found = write_duplicates(folder / _LIST, find_duplicates(key_files, keys.low, keys.high))
    return Tally(made={"found": found})


def _search_documents(work: Work, task: int, folder: Path) -> Tally:
    keys = _ranges(work, DOCUMENTS)[task]
    return _search([work.chunk_path(chunk, f"{keys.kind}.npy") for chunk in work.chunks], keys, folder)


def _search_sentences(work: Work, task: int, folder: Path) -> Tally:
    keys = _ranges(work, SENTENCES)[task]
    folders = [work.task_folder("sentences", chunk.number) for chunk in work.chunks]
    return _search([made / f"{keys.kind}.npy" for made in folders], keys, folder)


def found_in(work: Work, stage: str, chunk: Chunk) -> dict[str, npt.NDArray[np.uint32]]:
    """Kind of key -> the ascending numbers of the chunk's documents or sentences that such a search found."""
    lists: dict[str, list[Path]] = {}
    for task, keys in enumerate(_ranges(work, stage)):
        lists.setdefault(keys.kind, []).append(work.task_folder(stage, task) / _LIST)
    return {kind: duplicates_of(chunk.number, of_kind) for kind, of_kind in lists.items()}


FIND_DOCUMENTS = Stage(DOCUMENTS, ("duplicates",), lambda work: len(_ranges(work, DOCUMENTS)), _search_documents)
FIND_SENTENCES = Stage(SENTENCES, (), lambda work: len(_ranges(work, SENTENCES)), _search_sentences)
