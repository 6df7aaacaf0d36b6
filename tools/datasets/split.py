"""One dataset -> parts of it, as for the disks of many machines."""

import bisect
from itertools import pairwise
from pathlib import Path

from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Dataset, SplitWriter
from hzlm.errors import UserError
from hzlm.progress import Progress
from hzlm.tools.datasets.folder import appearing
from hzlm.vocabulary import Vocabulary


def split_dataset(folder: Path, parts: int, output: Path) -> list[Path]:
    """Cuts each split of a dataset between documents into parts of about as many positions.

    Merging the parts in their order gives the same streams again. dev.tsv and test.tsv are not cut: they lack
    sentences with blanks, and the parts do without them.

    Args:
        folder: the dataset.
        parts: how many.
        output: the folder of the parts, which must not exist yet; it appears when it is whole.

    Returns:
        The dataset folders of the parts, in `output`: part-0 and so on.

    Raises:
        UserError: the dataset is damaged or has fewer documents to train on than parts, or the output exists.
    """
    documents = len(Dataset.open(folder, "train").documents) - 1
    if documents < parts:
        raise UserError(f"{folder}: {documents} documents to train on make no {parts} parts; ask for fewer")
    vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    names = [f"part-{part:0{len(str(parts - 1))}}" for part in range(parts)]
    with appearing(output) as scratch, Progress(len(SPLITS) * parts, "splitting", "splits") as bar:
        for name in names:
            (scratch / name).mkdir()
            vocabulary.save(scratch / name / VOCABULARY_FILE)
        for split in SPLITS:
            dataset = Dataset.open(folder, split)
            for name, (start, end) in zip(names, pairwise(_cut(dataset, parts)), strict=True):
                with SplitWriter(scratch / name, split, vocabulary, dataset.is_pairs) as writer:
                    writer.append(dataset, start, end)
                    writer.finish()
                bar.advance()
    return [output / name for name in names]


def _cut(dataset: Dataset, parts: int) -> list[int]:
    """The first document of each part, and D at the end; no part is empty where there are documents enough."""
    documents = len(dataset.documents) - 1
    spare = 1 if documents >= parts else 0
    borders = [0]
    for part in range(1, parts):
        place = dataset.info["positions"] * part / parts
        found = bisect.bisect_left(range(documents), place, key=lambda at: _place(dataset, at))
        borders.append(max(borders[-1] + spare, min(found, documents - spare * (parts - part))))
    return [*borders, documents]


def _place(dataset: Dataset, document: int) -> int:
    """How many positions lie before a document."""
    return dataset.streams["hanzi"].place(dataset.documents.item(document))
