"""`hzlm prepare`: corpora -> a dataset folder."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from hzlm.data.dataset import SPLITS, VOCABULARY_FILE
from hzlm.decode.ngram import NGRAM_FILE
from hzlm.errors import UserError
from hzlm.progress import Progress
from hzlm.tools.build_vocabulary import PairCounts, build_vocabulary, count_pairs
from hzlm.tools.collect import collect
from hzlm.tools.encode import RecordEncoder
from hzlm.tools.ngram.build import build_ngram
from hzlm.tools.read import find_files, source_name
from hzlm.tools.report import SHOWN_UNKNOWN, Report
from hzlm.tools.split import Unit
from hzlm.tools.write import write_split
from hzlm.vocabulary import Vocabulary

LARGEST_NGRAM = 1 << 30
"""MiB; no text has so many n-grams."""


def prepare(
    inputs: Sequence[Path],
    output: Path,
    vocabulary: Path | None = None,
    coverage: float = 0.9999,
    unit: Unit = "sentence",
    max_length: int = 128,
    ngram_order: int | None = None,
    ngram_size: float = 16.0,
    arpa: Path | None = None,
) -> Report:
    """Makes a dataset folder (`hzlm.data.dataset`) out of raw text, in two passes and little memory.

    Besides the streams it writes dev.tsv and test.tsv (toneless pinyin, the sentence, the file it came from) and
    report.json, and with `ngram_order` ngram.safetensors. The folder appears when it is whole.

    Args:
        inputs: files and folders of UTF-8 text or JSON lines.
        output: the dataset folder, which must not exist yet.
        vocabulary: an existing vocabulary to encode with; without it one is built of the training split.
        coverage: share of the training split's characters that a vocabulary to be built must hold, in (0, 1].
        unit: what a sample is: a sentence, or a clause without punctuation.
        max_length: of a sample, in characters.
        ngram_order: length of the longest n-grams of a character n-gram model of the training split; None for no model.
        ngram_size: largest size of that model, in MiB.
        arpa: a file to which that model is also written in ARPA format.

    Raises:
        UserError: a value is out of range, an input is missing, empty or no text, nothing is left for training, the
            vocabulary is damaged, or the output exists.
    """
    start = time.monotonic()
    _check_values(output, coverage, unit, max_length)
    _check_ngram(ngram_order, ngram_size, arpa)
    given = None if vocabulary is None else Vocabulary.load(vocabulary)
    files = find_files(inputs)
    report = Report()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch_folder = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise UserError(f"{output}: cannot write here: {error.strerror}; choose another output") from error
    with scratch_folder as scratch:
        spools = collect(files, Path(scratch), unit, max_length, report)
        if not len(spools["train"]):
            named = ", ".join(map(str, inputs))
            raise UserError(f"{named}: of this text no sentence is left for training; add text")
        counts = count_pairs(spools["train"])
        encoder = RecordEncoder(given or build_vocabulary(counts, coverage))
        _report_coverage(encoder.vocabulary, counts, report)
        folder = Path(scratch) / "dataset"
        folder.mkdir()
        encoder.vocabulary.save(folder / VOCABULARY_FILE)
        sources = [source_name(path) for path in files]
        with Progress(sum(map(len, spools.values())), "writing", "sentences") as bar:
            for split in SPLITS:
                write_split(spools[split], folder, split, encoder, sources, report, bar)
        if ngram_order is not None:
            report.ngram = build_ngram(folder, encoder.vocabulary, ngram_order, ngram_size, folder / NGRAM_FILE, arpa)
        report.seconds = time.monotonic() - start
        report.save(folder / "report.json")
        folder.rename(output)
    return report


def _check_values(output: Path, coverage: float, unit: str, max_length: int) -> None:
    if output.exists():
        raise UserError(f"{output}: this exists already; remove it or choose another output")
    if not 0 < coverage <= 1:
        raise UserError(f"coverage is {coverage}, but it is a share above 0 and up to 1, as in 0.9999")
    if unit not in get_args(Unit):
        raise UserError(f"unit is {unit!r}, but it is one of {', '.join(get_args(Unit))}")
    if max_length < 1:
        raise UserError(f"max_length is {max_length}, but a sample has at least 1 character")


def _check_ngram(order: int | None, size: float, arpa: Path | None) -> None:
    if order is None and arpa is not None:
        raise UserError(f"{arpa}: an ARPA file needs an n-gram model; give its order too, as in --ngram 3")
    if order is not None and not 1 <= order <= 9:
        raise UserError(f"the order of the n-gram model is {order}, but it is 1 to 9, as in 3")
    if not 0 < size < LARGEST_NGRAM:
        raise UserError(f"the size of the n-gram model is {size}, but it is above 0, in MiB, as in 16")
    if arpa is not None and not (arpa.parent.is_dir() and os.access(arpa.parent, os.W_OK)):
        raise UserError(f"{arpa}: cannot write into {arpa.parent}; name a file in a folder that is there already")


def _report_coverage(vocabulary: Vocabulary, counts: PairCounts, report: Report) -> None:
    known = set(vocabulary.characters)
    unknown: Counter[str] = Counter()
    for (character, _), count in counts.items():
        if character not in known:
            unknown[character] += count
    report.vocabulary_size = vocabulary.target_size
    report.coverage = 1 - unknown.total() / sum(counts.values())
    report.unknown = dict(unknown.most_common(SHOWN_UNKNOWN))
