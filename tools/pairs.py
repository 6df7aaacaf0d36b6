"""Files of given sources and right targets -> a dataset of pairs, as for fine-tuning a corrector."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, Record, SplitWriter
from hzlm.errors import UserError
from hzlm.model.pretrained import find_checkpoint
from hzlm.pinyin import LITERAL, SYLLABLES, format_pinyin, is_hanzi, parse_pinyin
from hzlm.progress import Progress
from hzlm.table import format_table
from hzlm.tools.datasets.folder import appearing
from hzlm.tools.datasets.merge import TSV_FILES
from hzlm.tools.stages.sentences import split_of
from hzlm.vocabulary import Ids, Vocabulary

LINES = "give lines of source<TAB>target, or id<TAB>source<TAB>target"
SHOWN = 10
"""Characters of either side that a message shows, and unknown characters that the report names."""


@dataclass(frozen=True)
class Pair:
    """A line of a file as it stands."""

    source: str
    """What is given: text with errors, or pinyin."""
    target: str
    """What is right."""
    where: str
    """File and number of the line, for messages."""


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
) -> str:
    """Writes a dataset whose readings are the sources as they were given, each line a document.

    The sources of a file are text where one of them holds hanzi, else pinyin (`hzlm.pinyin.parse_pinyin`). Text has as
    many positions as its target; pinyin too, or a syllable for each hanzi of the target, whose other characters then
    stand for themselves and may be left out. dev.tsv and test.tsv hold source<TAB>target, pinyin with something for
    each character.

    Args:
        files: as `read_pairs` takes them.
        vocabulary_path: as `find_vocabulary` takes it.
        output: the dataset folder, which must not exist yet; it appears when it is whole.
        dev: share of the lines that the dev split gets, by the SHA-256 of the target.
        test: share of the test split.
        skip_unknown: leave out, and count, lines whose targets the vocabulary lacks a character of.

    Returns:
        What was written, as lines for people.

    Raises:
        UserError: a file or the vocabulary cannot be read, the sides of a line do not fit, the vocabulary lacks a
            character of a target, no line is left to train on, or the output exists.
    """
    if dev + test >= 1:
        raise UserError(f"--dev {dev:g} and --test {test:g} leave nothing to train on; make them smaller")
    vocabulary = find_vocabulary(vocabulary_path)
    report = _Report([(path, "text" if holds_text(path) else "pinyin") for path in files])
    with appearing(output) as folder, ExitStack() as stack:
        vocabulary.save(folder / VOCABULARY_FILE)
        writers = {split: stack.enter_context(SplitWriter(folder, split, vocabulary, True)) for split in SPLITS}
        tables = {name: stack.enter_context((folder / name).open("w", encoding="utf-8")) for name in TSV_FILES}
        bar = stack.enter_context(Progress(None, "encoding", "lines"))
        for path, kind in report.kinds:
            for pair in read_pairs(path):
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
            remedy = f"give more, or make --dev and --test smaller ({report.left_out:,} were left out)"
            raise UserError(f"{', '.join(map(str, files))}: no line is left to train on; {remedy}")
        for writer in writers.values():
            writer.finish()
    return str(report)


def read_pairs(path: Path) -> Iterator[Pair]:
    """The lines of a file that are not blank, one after the other; no more of it is held.

    Args:
        path: UTF-8 lines of source<TAB>target, or id<TAB>source<TAB>target.

    Raises:
        UserError: the file cannot be read, is no UTF-8 or holds no line, or a line has other columns or an empty one.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: no regular file; {LINES}")
    number = 0
    try:
        with path.open("rb") as file:
            for at, line in enumerate(file, start=1):
                where = f"{path}:{at}"
                try:
                    text = line.decode("utf-8-sig" if at == 1 else "utf-8").removesuffix("\n").rstrip("\r")
                except UnicodeDecodeError:
                    raise UserError(f"{where}: no UTF-8 text; convert the file to UTF-8 first") from None
                if text.strip():
                    number += 1
                    yield _cut_line(text, where)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {LINES}") from None
    if not number:
        raise UserError(f"{path}: no line in it; {LINES}")


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


def _cut_line(text: str, where: str) -> Pair:
    columns = text.split("\t")
    if len(columns) not in (2, 3):
        raise UserError(f"{where}: {len(columns)} column(s); {LINES}")
    source, target = columns[-2:]
    for name, side in (("source", source), ("target", target)):
        if not side.strip():
            raise UserError(f"{where}: its {name} is empty; {LINES}")
    return Pair(source, target, where)


def _encode_text(pair: Pair, vocabulary: Vocabulary) -> tuple[Record, str | None]:
    """The pair as ids, and its source as dev.tsv has it."""
    hanzi, source = vocabulary.encode(pair.target), vocabulary.encode(pair.source)
    if len(source) != len(hanzi):
        raise _unequal(pair, len(source), f"{len(hanzi)}", "a source of text has one for each of its target")
    return _record(hanzi, source), pair.source


def _encode_pinyin(pair: Pair, vocabulary: Vocabulary) -> tuple[Record, str | None]:
    """As `_encode_text`; None where pinyin cannot say what the source has."""
    hanzi = vocabulary.encode(pair.target)
    # a letter of the target that is no syllable stands for itself in the source too
    own = set(pair.target) - set(SYLLABLES)
    chunks = (LITERAL + chunk if chunk in own and not is_hanzi(chunk) else chunk for chunk in pair.source.split())
    given = parse_pinyin(" ".join(chunks), pair.where)
    tokens = _fill(given, pair.target) or given
    source = _ids_of(tokens, vocabulary)
    if len(source) != len(hanzi):
        expected = f"{len(hanzi)}, {sum(map(is_hanzi, pair.target))} of them hanzi"
        raise _unequal(
            pair, len(source), expected, "give a syllable or sign for each, or syllables for the hanzi alone"
        )
    try:
        return _record(hanzi, source), format_pinyin(tokens)
    except ValueError:
        return _record(hanzi, source), None


def _fill(given: Iterable[str], target: str) -> list[str] | None:
    """A token for each character of the target, where the given ones are the syllables of its hanzi, between which its
    other characters may stand too; None where they are not.
    """
    waiting = deque(given)
    tokens = []
    for character in target:
        literal = LITERAL + character
        if is_hanzi(character):
            if not waiting or waiting[0].startswith(LITERAL):
                return None
            tokens.append(waiting.popleft())
        else:
            tokens.append(literal)
            if waiting and waiting[0] == literal:
                waiting.popleft()
    return None if waiting else tokens


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


def _unequal(pair: Pair, found: int, expected: str, remedy: str) -> UserError:
    begun = " and ".join(repr(side[:SHOWN]) for side in (pair.source, pair.target))
    what = f"its source has {found} positions, its target {expected} (they begin {begun})"
    return UserError(f"{pair.where}: {what}; {remedy}")


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
