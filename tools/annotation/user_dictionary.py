"""Words and readings that a user gives."""

from dataclasses import dataclass
from pathlib import Path

from hzlm.errors import UserError
from hzlm.pinyin import UnknownSyllable, is_hanzi, nearest_syllable, parse_syllable
from hzlm.tools.annotation.readings import READING_INDEX


@dataclass(frozen=True)
class UserWord:
    """What a line says of a word."""

    readings: tuple[int, ...]
    """Indices into `TONED_SYLLABLES`, one for each hanzi."""
    weight: int | None
    """How often the word is met in a text of 60 million words (jieba's); None for as often as it takes to be one."""


def read_dictionary(path: Path) -> dict[str, UserWord]:
    """Reads lines of `word<TAB>reading reading ...[<TAB>weight]`, a reading is `zhong1` or `zhōng`, `de5` or `de`.

    Empty lines are passed over; of two lines for one word the last one holds.

    Raises:
        UserError: the file cannot be read or is no UTF-8, or a line is wrong, which is named.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot read this dictionary: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no UTF-8 text; convert this dictionary to UTF-8 first") from error
    words: dict[str, UserWord] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            word, user_word = _parse_line(line, f"{path}, line {number}")
            words[word] = user_word
    return words


def _parse_line(line: str, where: str) -> tuple[str, UserWord]:
    word, *fields = (field.strip() for field in line.split("\t"))
    if len(fields) not in (1, 2):
        raise UserError(f"{where}: write word<TAB>reading reading ...[<TAB>weight], parted by tabulators")
    if not word or not all(map(is_hanzi, word)):
        raise UserError(f'{where}: "{word}" is no word of hanzi alone; write one')
    readings = tuple(_parse_reading(text, where) for text in fields[0].split())
    if len(readings) != len(word):
        raise UserError(
            f"{where}: {word} has {len(word)} hanzi, but here are {len(readings)} readings; give one to each"
        )
    return word, UserWord(readings, _parse_weight(fields[1], where) if len(fields) > 1 else None)


def _parse_reading(text: str, where: str) -> int:
    try:
        syllable, tone = parse_syllable(text)
    except UnknownSyllable:
        nearest = nearest_syllable(text)
        hint = f"the nearest one is {nearest}" if nearest else "write readings as in: zhong1 guo2"
        raise UserError(f'{where}: "{text}" is no pinyin syllable; {hint}') from None
    return READING_INDEX[f"{syllable}{tone or 5}"]


def _parse_weight(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise UserError(f'{where}: the weight "{text}" is no whole number from 1 to {(1 << 31) - 1}; write one or none')
    return int(text)
