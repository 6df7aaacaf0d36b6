"""The stage that writes the dataset: the chunks one after the other, each split by itself."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from hzlm.data.dataset import SPLITS, STREAMS, VOCABULARY_FILE, Record, SplitWriter
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
            record, lengths, ends = _of_split(encoded / ENCODED_FILE, task)
            writer.add_many(record, lengths, ends)
            tally.kept.count(len(record.hanzi), len(lengths))
        writer.finish()
    if split in TSV_SPLITS:
        with (folder / f"{split}.tsv").open("wb") as table:
            for encoded in chunks:
                with (encoded / f"{split}.tsv").open("rb") as part:
                    shutil.copyfileobj(part, table)
    return tally


def _of_split(path: Path, split: int) -> tuple[Record, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The sentences of a chunk in one split, one after the other; their lengths; after which of them documents end."""
    chunk = load_file(path)
    is_here = chunk["splits"] == split
    positions = np.repeat(is_here, chunk["lengths"])
    record = Record(*(chunk[stream][positions] for stream in STREAMS))
    documents = chunk["documents"][is_here]
    ends = np.flatnonzero(np.diff(documents, append=-1)) + 1
    return record, chunk["lengths"][is_here], ends


INDEX = Stage("index", (), lambda work: len(SPLITS), index)
