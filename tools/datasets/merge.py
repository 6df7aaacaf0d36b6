"""Many datasets -> one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Dataset, SplitWriter, holds_pairs, read_sidecar
from hzlm.errors import UserError
from hzlm.progress import Progress
from hzlm.table import format_table
from hzlm.tools.datasets.folder import appearing
from hzlm.vocabulary import Vocabulary

TSV_FILES = ("dev.tsv", "test.tsv")
"""Held-out sentences as `hzlm prepare` writes them for people, one a line."""


def merge_datasets(folders: Sequence[Path], output: Path) -> str:
    """Writes a dataset with the sentences and documents of some others, in their order, split by split.

    dev.tsv and test.tsv are merged where each of the folders has them.

    Args:
        folders: datasets of one vocabulary.
        output: the dataset folder, which must not exist yet; it appears when it is whole.

    Returns:
        What was merged, as a table for people.

    Raises:
        UserError: a dataset is damaged or has another vocabulary than the first, some hold pairs and some do not, or
            the output exists.
    """
    vocabulary = Vocabulary.load(folders[0] / VOCABULARY_FILE)
    _check_vocabularies(folders, vocabulary)
    is_pairs = _hold_pairs(folders)
    rows = []
    with appearing(output) as scratch, Progress(len(SPLITS) * len(folders), "merging", "splits") as bar:
        vocabulary.save(scratch / VOCABULARY_FILE)
        for split in SPLITS:
            with SplitWriter(scratch, split, vocabulary, is_pairs) as writer:
                for folder in folders:
                    dataset = Dataset.open(folder, split)
                    writer.append(dataset)
                    rows.append(_describe(dataset, str(folder)))
                    bar.advance()
                writer.finish()
            rows.append(_describe(Dataset.open(scratch, split), str(output)))
        for name in TSV_FILES:
            if all((folder / name).exists() for folder in folders):
                with (scratch / name).open("wb") as file:
                    for folder in folders:
                        with (folder / name).open("rb") as part:
                            shutil.copyfileobj(part, file)
    return format_table(("dataset", "split", "documents", "sentences", "positions"), rows, names=2)


def _check_vocabularies(folders: Sequence[Path], vocabulary: Vocabulary) -> None:
    for folder in folders:
        if any(read_sidecar(folder, split)["vocabulary"] != vocabulary.fingerprint for split in SPLITS):
            remedy = f"prepare its text again with vocabulary.path={folders[0] / VOCABULARY_FILE}"
            raise UserError(f"{folder}: made with another vocabulary than {folders[0]}; {remedy}")


def _hold_pairs(folders: Sequence[Path]) -> bool:
    """Whether the datasets are of pairs; raises `UserError` where some are and some are not."""
    kinds = {folder: {holds_pairs(read_sidecar(folder, split)) for split in SPLITS} for folder in folders}
    first = kinds[folders[0]]
    for folder, found in kinds.items():
        if len(first | found) > 1:
            what = "one holds pairs (hzlm pairs), the other annotated text (hzlm prepare)"
            raise UserError(f"{folder}: cannot be merged with {folders[0]}: {what}; train on both, unmerged")
    return first == {True}


def _describe(dataset: Dataset, name: str) -> tuple[str, ...]:
    counts = (len(dataset.documents) - 1, len(dataset), dataset.info["positions"])
    return (name, dataset.split, *(f"{count:,}" for count in counts))
