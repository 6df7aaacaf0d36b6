"""Files of sentences whose right hanzi are known, read as they were published."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hzlm.data.sentence_files import Pair, align, read_pairs, read_rows, take_widths, unequal
from hzlm.decode.converter import Converter, Source
from hzlm.errors import UserError
from hzlm.pinyin import LITERAL, SYLLABLE, TONES, format_pinyin, is_hanzi, parse_pinyin

Format = Literal["pinyin", "readings", "correction"]
"""What the columns are:

pinyin       pinyin<TAB>hanzi[<TAB>source]                  what `hzlm prepare` writes
readings     [id<TAB>]readings of the hanzi<TAB>sentence    speech corpora
correction   [id<TAB>]sentence with errors<TAB>sentence     spelling correction
"""

PINYIN = "pinyin<TAB>hanzi[<TAB>source]"

_DIGITS = "".join(map(str, TONES))


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


def recognize(path: Path) -> Format:
    """The format of a file, by the first line that is not blank.

    It is `pinyin` where the first column is pinyin for the characters of the second; else `correction` where the last
    two columns both hold hanzi; else `readings` where of three columns the third one alone of these two does. A line of
    two columns, or of a wrong number, that is none of them counts as `pinyin`, whose reader says what is wrong.

    Raises:
        UserError: the file cannot be read, holds nothing, or its first line has three columns and is none of them.
    """
    row = next(read_rows(path, PINYIN))
    columns = row.columns
    if len(columns) not in (2, 3) or fits(columns[0], columns[1]):
        return "pinyin"
    has_hanzi = [any(map(is_hanzi, column)) for column in columns[-2:]]
    if has_hanzi == [True, True]:
        return "correction"
    if len(columns) == 2:
        return "pinyin"
    if has_hanzi == [False, True]:
        return "readings"
    raise UserError(
        f"{row.where}: neither pinyin<TAB>hanzi<TAB>source nor id<TAB>readings<TAB>sentence nor "
        "id<TAB>sentence with errors<TAB>sentence; correct it, or say which of them it is with --format"
    )


def fits(pinyin: str, hanzi: str) -> bool:
    """Whether a text is pinyin for these characters, with something for each of them."""
    try:
        tokens = take_widths(parse_pinyin(pinyin, ""), hanzi)
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
        UserError: the file is missing, empty or no UTF-8, or a line is no pair of equally long texts.
    """
    for line in read_lines(path) if format == "pinyin" else _read_readings(path, tones):
        yield parse_line(line, converter)


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file in the format `pinyin`; no more of it is read or held than is asked for.

    Raises:
        UserError: the file is missing, empty or no UTF-8, or a line has not two or three columns.
    """
    for row in read_rows(path, PINYIN, (2, 3)):
        pinyin, hanzi, *origin = row.columns
        yield Line(pinyin, hanzi, origin[0] if origin else None, row.where)


def parse_line(line: Line, converter: Converter) -> Example:
    """Raises UserError where its pinyin is none, or stands for another number of characters or for other ones.

    Signs of another width are taken for those of the hanzi (`hzlm.data.sentence_files.take_widths`).
    """
    hanzi, where = line.hanzi, line.where
    pinyin = line.pinyin
    tokens = parse_pinyin(pinyin, where)
    if (widened := take_widths(tokens, hanzi)) != tokens:
        pinyin = format_pinyin(widened)
    source = converter.read(pinyin, where, lenient=True)
    asked = source.characters
    if len(asked) != len(hanzi):
        raise UserError(f"{where}: pinyin of {len(asked)} characters, but hanzi of {len(hanzi)}; make them equal")
    for position, (literal, character) in enumerate(zip(asked, hanzi, strict=True), start=1):
        if character.isspace():
            raise UserError(f"{where}: character {position} of the hanzi is a blank, which no pinyin stands for")
        if literal is not None and literal != character:
            raise UserError(f"{where}: character {position} is {literal} in the pinyin but {character} in the hanzi")
    return Example(source, hanzi, line.origin)


def read_corrections(path: Path) -> Iterator[Pair]:
    """The sentences of a file in the format `correction`, one after the other.

    Raises:
        UserError: the file is none of pairs (`hzlm.data.sentence_files.read_pairs`), or its sentences differ in length.
    """
    for pair in read_pairs(path):
        if len(pair.source) != len(pair.target):
            remedy = "leave the line out, as only wrong characters can be corrected, not missing or needless ones"
            raise unequal(pair, len(pair.source), f"{len(pair.target)}", remedy)
        yield pair


def _read_readings(path: Path, tones: bool) -> Iterator[Line]:
    """Lines whose pinyin says the readings, and literally what has none. White space in a sentence is left out."""
    for pair in read_pairs(path):
        sentence = "".join(pair.target.split())
        tokens = align(replace(pair, target=sentence))
        for token, character in zip(tokens, sentence, strict=True):
            if token.startswith(SYLLABLE) and not is_hanzi(character):
                reading = token.removeprefix(SYLLABLE)
                raise UserError(f"{pair.where}: {character} is no hanzi, but {reading} is its reading; leave it out")
        if not tones:
            tokens = [token.rstrip(_DIGITS) if token.startswith(SYLLABLE) else token for token in tokens]
        yield Line(format_pinyin(tokens), sentence, None, pair.where)
