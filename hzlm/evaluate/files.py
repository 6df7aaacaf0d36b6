"""Files of sentences whose right hanzi are known, read as they were published."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hzlm.decode.converter import Converter, Source
from hzlm.errors import UserError
from hzlm.pinyin import (
    LITERAL,
    SYLLABLE,
    UnknownSyllable,
    format_pinyin,
    is_hanzi,
    nearest_syllable,
    parse_pinyin,
    parse_syllable,
)

Format = Literal["pinyin", "readings", "correction"]
"""What the columns are:

pinyin       pinyin<TAB>hanzi[<TAB>source]                  what `hzlm prepare` writes
readings     id<TAB>readings of the hanzi<TAB>sentence      speech corpora
correction   [id<TAB>]sentence with errors<TAB>sentence     spelling correction
"""


@dataclass(frozen=True)
class Row:
    """A line of a file that is not blank, cut at its tabs."""

    columns: list[str]
    where: str
    """File and line number, for messages."""


@dataclass(frozen=True)
class Line:
    """Pinyin and its hanzi as they stand in a file, nothing checked but the columns."""

    pinyin: str
    hanzi: str
    origin: str | None
    where: str
    """File and line number, for messages."""


@dataclass(frozen=True)
class Example:
    """What the model is given, what is right, and where it comes from."""

    source: Source
    hanzi: str
    origin: str | None


@dataclass(frozen=True)
class Pair:
    """A sentence that may have errors, and the right one, of the same length."""

    written: str
    right: str


def recognize(path: Path) -> Format:
    """The format of a file, by the first line that is not blank.

    It is `pinyin` where the first column is pinyin for the characters of the second; else `readings` where of three
    columns the third one alone of the last two holds hanzi; else `correction` where the last two do and are equally
    long. A line of two columns, or of a wrong number, that is none of them counts as `pinyin`, whose reader says what
    is wrong.

    Raises:
        UserError: the file cannot be read, holds nothing, or its first line has three columns and is none of them.
    """
    row = next(_read_rows(path), None)
    if row is None:
        raise UserError(f"{path}: no sentences in it; give lines of pinyin<TAB>hanzi")
    columns = row.columns
    if len(columns) not in (2, 3) or _fits(columns[0], columns[1]):
        return "pinyin"
    has_hanzi = [any(map(is_hanzi, column)) for column in columns[-2:]]
    if has_hanzi == [True, True] and len(columns[-2]) == len(columns[-1]):
        return "correction"
    if len(columns) == 2:
        return "pinyin"
    if has_hanzi == [False, True]:
        return "readings"
    raise UserError(
        f"{row.where}: neither pinyin<TAB>hanzi<TAB>source nor id<TAB>readings<TAB>sentence nor "
        "id<TAB>sentence with errors<TAB>sentence; correct it, or say which of them it is with --format"
    )


def _fits(pinyin: str, hanzi: str) -> bool:
    try:
        tokens = parse_pinyin(pinyin, "")
    except UserError:
        return False
    return len(tokens) == len(hanzi) and all(
        token.startswith(SYLLABLE) or token == LITERAL + character
        for token, character in zip(tokens, hanzi, strict=True)
    )


def read_examples(
    path: Path, converter: Converter, format: Format = "pinyin", tones: bool = False
) -> Iterator[Example]:
    """The sentences of a file with pinyin, one after the other.

    Args:
        path: UTF-8; blank lines are left out.
        converter: what is to convert them.
        format: `pinyin` or `readings`.
        tones: whether the tones of `readings` are kept. Pinyin is taken as it stands.

    Raises:
        UserError: the file is missing or no UTF-8, or a line is no pair of equally long texts.
    """
    for line in read_lines(path) if format == "pinyin" else _read_readings(path, tones):
        yield parse_line(line, converter)


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file in the format `pinyin`; no more of it is read or held than is asked for.

    Raises:
        UserError: the file is missing or no UTF-8, or a line has not two or three columns.
    """
    for row in _read_rows(path):
        if len(row.columns) not in (2, 3):
            raise UserError(f"{row.where}: {len(row.columns)} columns; expected pinyin<TAB>hanzi[<TAB>source]")
        pinyin, hanzi, *origin = row.columns
        yield Line(pinyin, hanzi, origin[0] if origin else None, row.where)


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


def read_pairs(path: Path) -> Iterator[Pair]:
    """The sentences of a file in the format `correction`, also without the column of ids, one after the other.

    Raises:
        UserError: the file is missing or no UTF-8, or a line has not two or three columns, or its sentences differ in
            length.
    """
    for row in _read_rows(path):
        if len(row.columns) not in (2, 3):
            raise UserError(
                f"{row.where}: {len(row.columns)} columns; expected [id<TAB>]sentence with errors<TAB>sentence"
            )
        written, right = row.columns[-2:]
        if len(written) != len(right):
            raise UserError(
                f"{row.where}: a sentence of {len(written)} characters, but the right one has {len(right)}; "
                "leave the line out, as only wrong characters can be corrected, not missing or needless ones"
            )
        if not written.strip():
            raise UserError(f"{row.where}: an empty sentence; leave the line out")
        yield Pair(written, right)


def _read_readings(path: Path, tones: bool) -> Iterator[Line]:
    """Lines whose pinyin says the readings, and literally what has none. White space in a sentence is left out."""
    for row in _read_rows(path):
        if len(row.columns) != 3:
            raise UserError(f"{row.where}: {len(row.columns)} columns; expected id<TAB>readings<TAB>sentence")
        _, readings, text = row.columns
        sentence = "".join(text.split())
        tokens = _align(readings.split(), sentence, tones, row.where)
        yield Line(format_pinyin(tokens), sentence, None, row.where)


def _align(readings: list[str], sentence: str, tones: bool, where: str) -> list[str]:
    """A typed token for each character. Readings are those of the hanzi; other characters may stand among them."""
    if not readings:
        raise UserError(f"{where}: no readings in the second column; add those of the hanzi, as in guang3 zhou1")
    tokens = []
    used = 0
    for character in sentence:
        if not is_hanzi(character):
            tokens.append(LITERAL + character)
            used += readings[used : used + 1] == [character]
        elif used < len(readings):
            tokens.append(_token_of(character, readings[used], tones, f"{where}, reading {used + 1}"))
            used += 1
        else:
            break
    if len(tokens) != len(sentence) or used != len(readings):
        hanzi = sum(map(is_hanzi, sentence))
        raise UserError(f"{where}: {len(readings)} readings do not fit a sentence of {hanzi} hanzi; give one of each")
    return tokens


def _token_of(hanzi: str, reading: str, tones: bool, where: str) -> str:
    try:
        # dictionaries write the 儿 that ends a syllable as r5
        syllable, tone = parse_syllable(f"e{reading}" if hanzi == "儿" and reading.startswith("r") else reading)
    except UnknownSyllable:
        nearest = nearest_syllable(reading)
        hint = f"the nearest one is {nearest}" if nearest else "write it as in guang3"
        raise UserError(f'{where}: "{reading}" is no pinyin syllable; {hint}') from None
    return f"{SYLLABLE}{syllable}{tone if tones and tone else ''}"


def _read_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}:{number}"
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").rstrip("\r")
                except UnicodeDecodeError:
                    raise UserError(f"{where}: no UTF-8 text; convert the file to UTF-8 first") from None
                if text.strip():
                    yield Row(text.split("\t"), where)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give lines of pinyin<TAB>hanzi") from None
