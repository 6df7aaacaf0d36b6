"""Evaluation of a checkpoint on sentences whose hanzi are known."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hzlm.decode.converter import NARROWEST, Converter, Source, System
from hzlm.errors import UserError
from hzlm.evaluate.baseline import most_frequent_hanzi
from hzlm.evaluate.metrics import Scores, score
from hzlm.evaluate.report import Comparison, Evaluation
from hzlm.progress import Progress

CANDIDATES = 10
"""Candidates of each sentence: what the top-10 hit rate needs."""


@dataclass(frozen=True)
class Line:
    """A line of the file as it stands, its columns counted and nothing else checked."""

    pinyin: str
    hanzi: str
    origin: str | None
    where: str
    """File and line number, for messages."""


@dataclass(frozen=True)
class Example:
    """A line of the file: what the model is given, what is right, and where it comes from."""

    source: Source
    hanzi: str
    origin: str | None


def evaluate(model: Path, data: Path, beam: int = CANDIDATES, limit: int | None = None) -> Evaluation:
    """Convert every line of a file, and compare with its hanzi.

    Args:
        model: run folder or checkpoint.
        data: UTF-8 lines of pinyin<TAB>hanzi[<TAB>source]; blank lines are left out.
        beam: width of the model's search; those that go by the n-gram model are no narrower than they need
            (`hzlm.decode.converter.NARROWEST`).
        limit: number of lines measured, from the first one; None for all.

    Raises:
        UserError: the model or the file is missing or damaged, or a line is no pair of equally long texts.
    """
    converter = Converter.load(model)
    examples = list(islice(read_examples(data, converter), limit))
    if not examples:
        raise UserError(f"{data}: no sentences in it; give lines of pinyin<TAB>hanzi")
    sources = [example.source for example in examples]
    systems: dict[System, int] = {"model": beam}
    if converter.companion is not None:
        companions: tuple[System, ...] = ("n-gram", "fused")
        systems |= {system: max(beam, NARROWEST[system]) for system in companions}
    converted: dict[System, list[list[str]]] = {}
    with Progress(len(systems) * len(examples), "evaluating", "sentences") as progress:
        for system, width in systems.items():
            start = time.perf_counter()
            found = converter.search(sources, CANDIDATES, width, progress.advance, system)
            seconds = time.perf_counter() - start
            converted[system] = [[candidate.text for candidate in candidates] for candidates in found]
    baseline = [[most_frequent_hanzi(converter.vocabulary, source)] for source in sources]
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        if example.origin is not None:
            groups.setdefault(example.origin, []).append(index)

    def compare(chosen: Sequence[int]) -> Comparison:
        expected = [examples[i] for i in chosen]
        scores = {
            system: _score(expected, [found[i] for i in chosen], ranked=True) for system, found in converted.items()
        }
        return Comparison(
            model=scores["model"],
            ngram=scores.get("n-gram"),
            fused=scores.get("fused"),
            baseline=_score(expected, [baseline[i] for i in chosen], ranked=False),
        )

    return Evaluation(
        total=compare(range(len(examples))),
        sources={origin: compare(chosen) for origin, chosen in groups.items()},
        sentences_per_second=len(examples) / seconds,
    )


def _score(examples: Sequence[Example], candidates: Sequence[Sequence[str]], ranked: bool) -> Scores:
    counted = [[character is None for character in example.source.characters] for example in examples]
    return score([example.hanzi for example in examples], candidates, counted, ranked)


def read_examples(path: Path, converter: Converter) -> Iterator[Example]:
    """The sentences of a file as `evaluate` takes it, one after the other. Raises UserError as `evaluate` does."""
    for line in read_lines(path):
        yield parse_line(line, converter)


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of such a file that are not blank; no more of it is read or held than is asked for.

    Raises:
        UserError: the file is missing or no UTF-8, or a line has not two or three columns.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}:{number}"
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").rstrip("\r")
                except UnicodeDecodeError:
                    raise UserError(f"{where}: no UTF-8 text; convert the file to UTF-8 first") from None
                if text.strip():
                    yield _cut_line(text, where)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give lines of pinyin<TAB>hanzi") from None


def _cut_line(text: str, where: str) -> Line:
    columns = text.split("\t")
    if len(columns) not in (2, 3):
        raise UserError(f"{where}: {len(columns)} columns; expected pinyin<TAB>hanzi[<TAB>source]")
    pinyin, hanzi, *origin = columns
    return Line(pinyin, hanzi, origin[0] if origin else None, where)


def parse_line(line: Line, converter: Converter) -> Example:
    """Raises UserError where its pinyin is none, or stands for another number of characters or for other ones."""
    hanzi, where = line.hanzi, line.where
    source = converter.read(line.pinyin, where, lenient=True)
    asked = source.characters
    if len(asked) != len(hanzi):
        raise UserError(f"{where}: pinyin of {len(asked)} characters, but hanzi of {len(hanzi)}; make them equal")
    for position, (literal, character) in enumerate(zip(asked, hanzi, strict=True), start=1):
        if character.isspace():
            raise UserError(f"{where}: character {position} of the hanzi is a blank, which no pinyin stands for")
        if literal is not None and literal != character:
            raise UserError(f"{where}: character {position} is {literal} in the pinyin but {character} in the hanzi")
    return Example(source, hanzi, line.origin)
