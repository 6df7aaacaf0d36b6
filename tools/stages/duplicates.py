"""The stages that find what the corpus had before: whole documents, equal or nearly so, and later single sentences.

Each task looks at one range of keys over the whole corpus, and writes what is to be left out: pairs of chunk and item.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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


def count_keys(work: Work, stage: str) -> dict[str, int]:
    """How many keys of each kind the tasks of a stage wrote."""
    totals: dict[str, int] = {}
    for folder in sorted(work.stage_folder(stage).glob("[0-9]*")):
        for kind, count in work.tally(stage, int(folder.name)).made["keys"].items():
            totals[kind] = totals.get(kind, 0) + count
    return totals


def _ranges(work: Work, stage: str) -> list[KeyRange]:
    return [
        KeyRange(kind, low, high)
        for kind, total in sorted(count_keys(work, stage).items())
        for low, high in key_ranges(total)
    ]


def _search(key_files: Sequence[Path], keys: KeyRange, folder: Path) -> Tally:
    found = write_duplicates(folder / _LIST, find_duplicates(key_files, keys.low, keys.high))
    return Tally(made={"kind": keys.kind, "found": found})


def _search_documents(work: Work, task: int, folder: Path) -> Tally:
    keys = _ranges(work, "read")[task]
    return _search([work.chunk_path(chunk, f"{keys.kind}.npy") for chunk in work.chunks], keys, folder)


def _search_sentences(work: Work, task: int, folder: Path) -> Tally:
    keys = _ranges(work, "sentences")[task]
    return _search(
        [work.task_folder("sentences", chunk.number) / f"{keys.kind}.npy" for chunk in work.chunks], keys, folder
    )


def found_in(work: Work, stage: str, chunk: Chunk) -> dict[str, npt.NDArray[np.uint32]]:
    """Kind of key -> the ascending numbers of the chunk's documents or sentences that such a search found."""
    folders: dict[str, list[Path]] = {}
    for folder in sorted(work.stage_folder(stage).glob("[0-9]*")):
        folders.setdefault(work.tally(stage, int(folder.name)).made["kind"], []).append(folder / _LIST)
    return {kind: duplicates_of(chunk.number, lists) for kind, lists in folders.items()}


FIND_DOCUMENTS = Stage(DOCUMENTS, ("duplicates",), lambda work: len(_ranges(work, "read")), _search_documents)
FIND_SENTENCES = Stage(SENTENCES, (), lambda work: len(_ranges(work, "sentences")), _search_sentences)
