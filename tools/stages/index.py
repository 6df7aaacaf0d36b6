"""The stage that writes the dataset: the chunks one after the other, each split by itself."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from hzlm.data.dataset import (
    SPLITS,
    STREAMS,
    VOCABULARY_FILE,
    Record,
    SplitWriter,
    sidecar_path,
    stream_prefix,
)
from hzlm.data.indexed_layout import bin_path, idx_path
from hzlm.tools.stages.encode import ENCODED_FILE, TSV_SPLITS
from hzlm.tools.stages.tally import Tally
from hzlm.tools.stages.work import Stage, Work
from hzlm.vocabulary import Vocabulary


def index(work: Work, task: int, folder: Path) -> Tally:
    """Writes streams and sidecar of a split, and SPLIT.tsv where it is held out."""
    tally = Tally()
    split = SPLITS[task]
    vocabulary = Vocabulary.load(work.task_folder("vocabulary", 0) / VOCABULARY_FILE)
    chunks = [work.task_folder("encode", chunk.number) for chunk in work.chunks]
    with SplitWriter(folder, split, vocabulary) as writer:
        for encoded in chunks:
            chunk = load_file(encoded / ENCODED_FILE)
            is_here = chunk["splits"] == task
            writer.add_many(*_select(chunk, is_here))
            tally.kept.count(int(chunk["characters"][is_here].sum()), int(is_here.sum()))
        writer.finish()
    if split in TSV_SPLITS:
        with (folder / f"{split}.tsv").open("wb") as table:
            for encoded in chunks:
                with (encoded / f"{split}.tsv").open("rb") as part:
                    shutil.copyfileobj(part, table)
    return tally


def index_files(split: str) -> list[str]:
    """The names of the files that belong to the dataset."""
    streams = [stream_prefix(Path(), split, stream) for stream in STREAMS]
    paths = [path_of(prefix) for prefix in streams for path_of in (bin_path, idx_path)]
    tables = [f"{split}.tsv"] if split in TSV_SPLITS else []
    return [*(path.name for path in paths), sidecar_path(Path(), split).name, *tables]


def _select(
    chunk: Mapping[str, npt.NDArray[Any]], chosen: npt.NDArray[np.bool_]
) -> tuple[Record, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The chosen sentences, one after the other; their lengths in positions; after which of them documents end."""
    positions = np.repeat(chosen, chunk["lengths"])
    record = Record(*(chunk[stream][positions] for stream in STREAMS))
    ends = np.flatnonzero(np.diff(chunk["documents"][chosen], append=-1)) + 1
    return record, chunk["lengths"][chosen], ends


INDEX = Stage("index", (), lambda work: len(SPLITS), index)
