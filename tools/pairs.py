"""Files of given sources and right targets -> a dataset of pairs, as for fine-tuning a corrector."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Record, SplitWriter
from hzlm.data.sentence_files import PAIRS, Pair, align, read_pairs, unequal
from hzlm.errors import UserError
from hzlm.model.pretrained import find_checkpoint
from hzlm.pinyin import LITERAL, format_pinyin, is_hanzi
from hzlm.progress import Progress
from hzlm.table import format_table
from hzlm.tools.datasets.folder import appearing
from hzlm.tools.datasets.merge import TSV_FILES
from hzlm.tools.decontaminate import CLEAN, DecontaminateConfig, TestSet
from hzlm.tools.stages.sentences import split_of
from hzlm.vocabulary import Ids, Vocabulary

SHOWN = 10
"""Unknown characters that the report names."""

_BLOCK = 1000
"""Lines looked up in test files at once."""


@dataclass
class _Count:
    """What was written of a split."""

    lines: int = 0
    different: int = 0
    positions: int = 0
    longest: int = 0

    def count(self, record: Record) -> None:
        self.lines += 1
        self.different += not np.array_equal(record.reading, record.hanzi)
        self.positions += len(record.hanzi)
        self.longest = max(self.longest, len(record.hanzi))


@dataclass
class _Report:
    kinds: list[tuple[Path, str]] = field(default_factory=list)
    splits: dict[str, _Count] = field(default_factory=lambda: {split: _Count() for split in SPLITS})
    left_out: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    in_tests: int = 0
    not_in_tsv: int = 0

    def __str__(self) -> str:
        lines = [f"{path}: sources are {kind}" for path, kind in self.kinds]
        rows = []
        for split, of_split in self.splits.items():
            counts = (of_split.lines, of_split.different, of_split.positions, of_split.longest)
            share = f"{100 * of_split.different / max(of_split.lines, 1):.1f}"
            rows.append((split, f"{of_split.lines:,}", share, *(f"{count:,}" for count in counts[2:])))
        lines.append(format_table(("split", "lines", "% with a difference", "positions", "longest"), rows))
        if self.left_out:
            named = ", ".join(f"{name} ({count:,})" for name, count in self.unknown.most_common(SHOWN))
            lines.append(
                f"left out   {self.left_out:,} lines whose targets the vocabulary lacks a character of: {named}"
            )
        if self.in_tests:
            lines.append(f"left out   {self.in_tests:,} lines whose targets stand in a test file")
        if self.not_in_tsv:
            lines.append(f"no .tsv    {self.not_in_tsv:,} held-out lines with blanks, which pinyin cannot express")
        return "\n".join(lines)


def make_pairs(
    files: Sequence[Path],
    vocabulary_path: Path,
    output: Path,
    dev: float = 0.05,
    test: float = 0.0,
    skip_unknown: bool = False,
    test_files: Sequence[Path] = (),
) -> str:
    """Writes a dataset whose readings are the sources as they were given, each line a document.

    The sources of a file are text where one of them holds hanzi, else pinyin (`hzlm.data.sentence_files.align`). Text
    has as many positions as its target. dev.tsv and test.tsv hold source<TAB>target, pinyin with something for each
    character.

    Args:
        files: as `hzlm.data.sentence_files.read_pairs` takes them.
        vocabulary_path: as `find_vocabulary` takes it.
        output: the dataset folder, which must not exist yet; it appears when it is whole.
        dev: share of the lines that the dev split gets, by the SHA-256 of the target.
        test: share of the test split.
        skip_unknown: leave out, and count, lines whose targets the vocabulary lacks a character of.
        test_files: leave out, and count, lines whose targets stand in them (`hzlm.tools.decontaminate`).

    Returns:
        What was written, as lines for people.

    Raises:
        UserError: a file, a test file or the vocabulary cannot be read, the sides of a line do not fit, the vocabulary
            lacks a character of a target, no line is left to train on, or the output exists.
    """
    if dev + test >= 1:
        raise UserError(f"--dev {dev:g} and --test {test:g} leave nothing to train on; make them smaller")
    vocabulary = find_vocabulary(vocabulary_path)
    tests = TestSet.load(DecontaminateConfig(files=tuple(test_files)))
    for path in files:
        # a pipe could not be read twice
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: no regular file; give lines of {PAIRS}")
    report = _Report([(path, "text" if holds_text(path) else "pinyin") for path in files])
    with appearing(output) as folder, ExitStack() as stack:
        vocabulary.save(folder / VOCABULARY_FILE)
        writers = {split: stack.enter_context(SplitWriter(folder, split, vocabulary, True)) for split in SPLITS}
        tables = {name: stack.enter_context((folder / name).open("w", encoding="utf-8")) for name in TSV_FILES}
        bar = stack.enter_context(Progress(None, "encoding", "lines"))
        for path, kind in report.kinds:
            for pair in _outside(tests, read_pairs(path), report):
                bar.advance()
                record, shown = (_encode_text if kind == "text" else _encode_pinyin)(pair, vocabulary)
                if _lacks(pair, record, vocabulary, skip_unknown, report):
                    continue
                split = split_of(pair.target, dev, test)
                writers[split].add(record)
                writers[split].end_document()
                report.splits[split].count(record)
                table = tables.get(f"{split}.tsv")
                if table is not None and shown is None:
                    report.not_in_tsv += 1
                elif table is not None:
                    table.write(f"{shown}\t{pair.target}\n")
        if not report.splits["train"].lines:
            left_out = report.left_out + report.in_tests
            remedy = f"give more, or make --dev and --test smaller ({left_out:,} were left out)"
            raise UserError(f"{', '.join(map(str, files))}: no line is left to train on; {remedy}")
        for writer in writers.values():
            writer.finish()
    return str(report)


def holds_text(path: Path) -> bool:
    """Whether the sources of a file are text: one of them holds a hanzi. Else they are pinyin."""
    return any(any(map(is_hanzi, pair.source)) for pair in read_pairs(path))


def find_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a vocabulary.json, or of the dataset, checkpoint or run folder that holds one.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if (path / VOCABULARY_FILE).is_file():
        return Vocabulary.load(path / VOCABULARY_FILE)
    checkpoint = find_checkpoint(path)
    if checkpoint is not None:
        return Vocabulary.load(checkpoint / VOCABULARY_FILE)
    if path.is_dir():
        what = "pass a vocabulary.json, or the dataset, checkpoint or run folder that holds one"
        raise UserError(f"{path}: no vocabulary here; {what}")
    return Vocabulary.load(path)


def _outside(tests: TestSet, pairs: Iterator[Pair], report: _Report) -> Iterator[Pair]:
    """Those pairs whose targets stand in no test file; the others are counted."""
    while block := list(islice(pairs, _BLOCK)):
        for pair, file in zip(block, tests.find_files([[pair.target] for pair in block]), strict=True):
            if file == CLEAN:
                yield pair
            else:
                report.in_tests += 1


def _encode_text(pair: Pair, vocabulary: Vocabulary) -> tuple[Record, str | None]:
    """The pair as ids, and its source as dev.tsv has it."""
    hanzi, source = vocabulary.encode(pair.target), vocabulary.encode(pair.source)
    if len(source) != len(hanzi):
        raise unequal(pair, len(source), f"{len(hanzi)}", "a source of text has one for each of its target")
    return _record(hanzi, source), pair.source


def _encode_pinyin(pair: Pair, vocabulary: Vocabulary) -> tuple[Record, str | None]:
    """As `_encode_text`; None where pinyin cannot say what the source has."""
    hanzi = vocabulary.encode(pair.target)
    tokens = align(pair)
    source = _ids_of(tokens, vocabulary)
    if len(source) != len(hanzi):
        raise unequal(pair, len(source), f"{len(hanzi)}", "give signs that the vocabulary cuts as those of the target")
    try:
        return _record(hanzi, source), format_pinyin(tokens)
    except ValueError:
        return _record(hanzi, source), None


def _ids_of(tokens: Iterable[str], vocabulary: Vocabulary) -> Ids:
    """Typed tokens -> int32 [positions]; literals side by side are one text, cut as that of targets is."""
    ids: list[int] = []
    for is_literal, group in groupby(tokens, key=lambda token: token.startswith(LITERAL)):
        if is_literal:
            ids += vocabulary.encode("".join(token.removeprefix(LITERAL) for token in group)).tolist()
        else:
            ids += map(vocabulary.id_of, group)
    return np.array(ids, np.int32)


def _record(hanzi: Ids, source: npt.NDArray[np.int32]) -> Record:
    return Record(hanzi, source, np.zeros(len(hanzi), np.uint8))


def _lacks(pair: Pair, record: Record, vocabulary: Vocabulary, skip: bool, report: _Report) -> bool:
    """Whether the vocabulary lacks a character of the target, which is counted; raises `UserError` unless `skip`."""
    places = np.flatnonzero(record.hanzi == vocabulary.unknown_id).tolist()
    if not places:
        return False
    cut = vocabulary.cut(pair.target)
    if not skip:
        remedy = "prepare a vocabulary that has it, or leave such lines out with --skip-unknown"
        raise UserError(f"{pair.where}: the vocabulary lacks {cut[places[0]]!r} of the target; {remedy}")
    report.left_out += 1
    report.unknown.update({cut[place] for place in places})
    return True
