"""What a dataset holds, at a glance."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from hzlm.data.dataset import SPLITS, Dataset
from hzlm.data.indexed_layout import BLOCK
from hzlm.data.indexed_streams import are_targets
from hzlm.data.marks import MARK_AMBIGUOUS, MARK_FOLLOWS, SECOND_SHIFT
from hzlm.data.packing import pack
from hzlm.table import format_table

SAMPLE = 65_536
"""Sentences that are packed, and looked at for their marks."""
_BAR = 40


def inspect_dataset(folder: Path, row_length: int) -> str:
    """Sizes, counts, lengths, vocabulary, how well rows of `row_length` can be filled, and marks, or of pairs what the
    sources carry, as lines for people.

    Raises:
        UserError: the dataset is damaged.
    """
    datasets = [Dataset.open(folder, split) for split in SPLITS]
    train = datasets[0]
    sections = [_counts(datasets), _vocabulary(train)]
    if len(train):
        sample = np.unique(np.linspace(0, len(train) - 1, min(SAMPLE, len(train))).astype(np.int64))
        describe = _sources if train.is_pairs else _marks
        sections += [_histogram(train), f"{_packing(train, sample, row_length)}\n{describe(train, sample)}"]
    return "\n\n".join(sections)


def count_lengths(lengths: npt.NDArray[np.int32]) -> list[tuple[int, int, int]]:
    """Sentences by length: (shortest, longest, how many) for each class, which are 0, 1, 2-3, 4-7, 8-15 and so on."""
    counts = np.zeros(33, np.int64)
    for start in range(0, len(lengths), BLOCK):
        # The exponent e of a whole number n = m 2^e, m in [0.5, 1), is how many bits it has.
        exponents = np.frexp(lengths[start : start + BLOCK].astype(np.float64))[1]
        counts += np.bincount(exponents, minlength=len(counts))
    return [((1 << bits) >> 1, (1 << bits) - 1, int(counts[bits])) for bits in np.flatnonzero(counts).tolist()]


def packing_efficiency(lengths: npt.NDArray[np.integer], row_length: int) -> float:
    """The share of the positions of rows that are filled, when sentences of these lengths [S] are packed."""
    return float(lengths.sum(dtype=np.int64) / (len(pack(lengths, row_length)) * row_length))


def _counts(datasets: list[Dataset]) -> str:
    rows = []
    for dataset in datasets:
        size = sum(file["bytes"] for file in dataset.info["files"].values())
        counts = (len(dataset.documents) - 1, len(dataset), dataset.info["positions"])
        mean = f"{dataset.info['positions'] / max(len(dataset), 1):.1f}"
        rows.append((dataset.split, *(f"{count:,}" for count in counts), mean, f"{size / 2**20:,.1f}"))
    return format_table(("split", "documents", "sentences", "positions", "mean length", "MB"), rows)


def _vocabulary(dataset: Dataset) -> str:
    vocabulary = dataset.vocabulary
    several = sum(len(counts) > 1 for counts in vocabulary.readings.values())
    return (
        f"vocabulary {vocabulary.target_size:,} targets, {len(vocabulary.readings):,} of them with readings, "
        f"{several:,} with several; {vocabulary.size:,} ids; fingerprint {vocabulary.fingerprint[:16]}"
    )


def _histogram(dataset: Dataset) -> str:
    classes = count_lengths(dataset.lengths)
    most = max(count for _, _, count in classes)
    rows = []
    for shortest, longest, count in classes:
        name = f"{shortest}-{longest}" if longest > shortest else f"{longest}"
        rows.append((name, "#" * round(_BAR * count / most), f"{count:,}", f"{100 * count / len(dataset):.2f}"))
    return format_table(("length", f"sentences of {dataset.split}", "number", "%"), rows, names=2)


def _packing(dataset: Dataset, sample: npt.NDArray[np.int64], row_length: int) -> str:
    lengths = dataset.lengths[sample]
    fits = (lengths > 0) & (lengths <= row_length)
    share = f"{100 * packing_efficiency(lengths[fits], row_length):.2f} %" if fits.any() else "nothing"
    left = f"; {len(fits) - fits.sum():,} do not fit" if not fits.all() else ""
    return f"packing    {share} of rows of {row_length} positions filled by {len(sample):,} sentences{left}"


def _marks(dataset: Dataset, sample: npt.NDArray[np.int64]) -> str:
    reader = dataset.streams["marks"]
    found = [reader[number] for number in sample.tolist()]
    marks = np.concatenate(found)
    firsts = np.concatenate([one[:1] for one in found])
    ambiguous = 100 * np.count_nonzero(marks & MARK_AMBIGUOUS) / max(len(marks), 1)
    second = 100 * np.count_nonzero(marks >> SECOND_SHIFT) / max(len(marks), 1)
    follows = 100 * np.count_nonzero(firsts & MARK_FOLLOWS) / len(sample)
    return (
        f"marks      {ambiguous:.2f} % of {len(marks):,} positions ambiguous, {second:.2f} % with a second reading; "
        f"{follows:.1f} % of {len(sample):,} sentences follow the one before them"
    )


def _sources(dataset: Dataset, sample: npt.NDArray[np.int64]) -> str:
    records = [dataset.record(number) for number in sample.tolist()]
    hanzi = np.concatenate([record.hanzi for record in records])
    reading = np.concatenate([record.reading for record in records])
    same = 100 * np.count_nonzero(reading == hanzi) / max(len(hanzi), 1)
    syllables = 100 * np.count_nonzero(~are_targets(reading, dataset.vocabulary)) / max(len(hanzi), 1)
    return (
        f"sources    given: {same:.2f} % of {len(hanzi):,} positions carry the target, {syllables:.2f} % a syllable, "
        f"{100 - same - syllables:.2f} % another character"
    )
