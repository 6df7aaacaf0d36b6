"""Ways to read sentences beside human labels: wrong syllables, with and without tone, and characters a second."""

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from hzlm.errors import UserError
from hzlm.pinyin import HANZI_RANGES, TONED_SYLLABLES
from hzlm.table import format_table
from hzlm.tools.annotation.readings import typed_reading

Reader = Callable[[str], Sequence[str | None]]
"""A sentence of N characters -> N readings as `typed_reading` has them, anything for what is no hanzi."""

_MARK = "▁"
_HANZI = re.compile(f"[{HANZI_RANGES}]")
_RUN = re.compile(f"[{HANZI_RANGES}]+|[^{HANZI_RANGES}]+")


@dataclass(frozen=True)
class Labels:
    """The sentences of a label file."""

    name: str
    sentences: list[str]
    readings: list[dict[int, str]]
    """For each sentence, place of a hanzi -> its reading."""
    skipped: int
    """Rows whose readings and hanzi do not align."""


@dataclass(frozen=True)
class Score:
    """What a reader did with a label file."""

    labels: int
    toneless: int
    """Wrong syllables, tone aside."""
    toned: int
    """Wrong syllables or tones."""
    characters: int
    seconds: float


def read_labels(path: Path) -> Labels:
    """Reads lines of id<TAB>readings<TAB>sentence: a reading for each hanzi, or one for that between ▁ marks.

    Raises:
        UserError: the file cannot be read, or a line has not three columns.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read these labels: {error}") from error
    sentences, readings, skipped = [], [], 0
    for number, line in enumerate(lines, 1):
        columns = line.split("\t")
        if len(columns) != 3:
            raise UserError(f"{path}, line {number}: write id<TAB>readings<TAB>sentence")
        typed = [typed_reading(reading) for reading in columns[1].split()]
        sentence = columns[2].replace(_MARK, "")
        if _MARK in columns[2]:
            places = [mark.start() - 1 for mark in re.finditer(f"(?<={_MARK}).(?={_MARK})", columns[2])]
        else:
            places = [match.start() for match in _HANZI.finditer(sentence)]
        found = {place: reading for place, reading in zip(places, typed, strict=False) if reading is not None}
        if not len(found) == len(places) == len(typed):
            skipped += 1
            continue
        sentences.append(sentence)
        readings.append(found)
    return Labels(path.stem, sentences, readings, skipped)


def score(reader: Reader, labels: Labels) -> Score:
    """Reads all sentences and counts what differs from the labels."""
    start = time.perf_counter()
    answers = [reader(sentence) for sentence in labels.sentences]
    seconds = time.perf_counter() - start
    toneless = toned = 0
    for answer, known in zip(answers, labels.readings, strict=True):
        for place, reading in known.items():
            given = answer[place] or ""
            toned += given != reading
            toneless += given[:-1] != reading[:-1]
    return Score(sum(map(len, labels.readings)), toneless, toned, sum(map(len, labels.sentences)), seconds)


def _pypinyin() -> Reader:
    from pypinyin import Style, lazy_pinyin

    def read(sentence: str) -> list[str | None]:
        readings: list[str | None] = []
        for run in _RUN.findall(sentence):
            found = lazy_pinyin(run, style=Style.TONE3, neutral_tone_with_five=True) if _HANZI.match(run) else []
            readings += map(typed_reading, found) if len(found) == len(run) else [None] * len(run)
        return readings

    return read


def _pypinyin_words() -> Reader:
    import rjieba

    read = _pypinyin()
    return lambda sentence: [reading for word in rjieba.cut(sentence) for reading in read(word)]


def _pypinyin_packages() -> Reader:
    from pypinyin_dict.phrase_pinyin_data import di, large_pinyin

    large_pinyin.load()
    di.load()
    return _pypinyin()


def _g2pm() -> Reader:
    try:
        from g2pM import G2pM
    except ModuleNotFoundError as error:
        raise UserError(
            "g2pM is not installed, which no other command needs; run: pip install g2pM==0.1.2.5"
        ) from error

    model = G2pM()
    return lambda sentence: [typed_reading(reading) for reading in model(sentence, char_split=True)]


def _ours() -> Reader:
    from hzlm.tools.annotation.annotate import Annotator

    annotator = Annotator()

    def read(sentence: str) -> list[str | None]:
        annotation = annotator.annotate(sentence)
        if annotation is None:
            return [None] * len(sentence)
        return [TONED_SYLLABLES[reading] for reading in annotation.readings.tolist()]

    return read


READERS: dict[str, Callable[[], Reader]] = {
    "pypinyin": _pypinyin,
    "pypinyin-words": _pypinyin_words,
    "pypinyin-packages": _pypinyin_packages,
    "g2pm": _g2pm,
    "ours": _ours,
}
"""pypinyin on sentences, on jieba's words, on sentences with two phrase packages of pypinyin-dict; g2pM; ours."""


def _score_all(name: str, labels: Sequence[Labels]) -> list[Score]:
    reader = READERS[name]()
    reader("".join(label.sentences[0] for label in labels if label.sentences))
    return [score(reader, label) for label in labels]


def bench_readings(files: Sequence[Path], readers: Sequence[str]) -> str:
    """A table of wrong syllables in 10,000 for each reader (of `READERS`) and label file, and its speed on all.

    Every reader runs in a process of its own, since pypinyin's packages change pypinyin for the whole process.

    Raises:
        UserError: a reader is unknown, or a file is no table of labels.
    """
    for name in readers:
        if name not in READERS:
            raise UserError(f"{name}: no such reader; known: {', '.join(READERS)}")
    labels = [read_labels(path) for path in files]
    rows = []
    for name in readers:
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            scores = process.submit(_score_all, name, labels).result()
        speed = sum(s.characters for s in scores) / sum(s.seconds for s in scores)
        wrong = [f"{1e4 * count / s.labels:.1f}" for s in scores for count in (s.toneless, s.toned)]
        rows.append([name, *wrong, f"{speed:,.0f}"])
    headings = [f"{label.name} {kind}" for label in labels for kind in ("toneless", "with tone")]
    notes = [f"{label.name}: {len(label.sentences)} rows, {label.skipped} skipped" for label in labels]
    return "\n".join([*notes, format_table(["reader", *headings, "characters/s"], rows)])
