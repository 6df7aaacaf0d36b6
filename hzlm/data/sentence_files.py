"""Files of sentences as they are published: what is given of each, and what is right.

Their lines are columns parted by tabs. Whoever asks for pairs takes lines of source<TAB>target, or of
id<TAB>source<TAB>target: the target is the right sentence, the source a text with errors, or pinyin.
"""

import re
import unicodedata
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hzlm.errors import UserError
from hzlm.pinyin import LITERAL, SYLLABLES, is_hanzi, parse_pinyin

PAIRS = "[id<TAB>]source<TAB>target"

_SHOWN = 10
_ERHUA = re.compile("r[0-5]?")
_WIDTHS = ("<wide>", "<narrow>")


@dataclass(frozen=True)
class Row:
    """A line of a file that is not blank, cut at its tabs."""

    columns: list[str]
    where: str
    """File and number of the line, for messages."""


@dataclass(frozen=True)
class Pair:
    """A line of a file as it stands; neither side is empty."""

    source: str
    """What is given: text with errors, or pinyin."""
    target: str
    """What is right."""
    where: str
    """File and number of the line, for messages."""


def read_rows(path: Path, form: str, numbers: Sequence[int] | None = None) -> Iterator[Row]:
    """The lines of a file that are not blank, one after the other; no more of it is held.

    Args:
        path: UTF-8, with or without a byte order mark.
        form: what lines it should hold, for messages.
        numbers: how many columns a line may have; None for any number.

    Raises:
        UserError: the file cannot be read, is no UTF-8 or holds no line, or a line has another number of columns.
    """
    is_empty = True
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}:{number}"
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").rstrip("\r")
                except UnicodeDecodeError:
                    raise UserError(f"{where}: no UTF-8 text; convert the file to UTF-8 first") from None
                if text.strip():
                    is_empty = False
                    columns = text.split("\t")
                    if numbers is not None and len(columns) not in numbers:
                        raise UserError(f"{where}: {len(columns)} column(s); give lines of {form}")
                    yield Row(columns, where)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give lines of {form}") from None
    if is_empty:
        raise UserError(f"{path}: no sentences in it; give lines of {form}")


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a file, one after the other. Raises `UserError` as `read_rows`, or where a side is empty."""
    for row in read_rows(path, PAIRS, (2, 3)):
        source, target = row.columns[-2:]
        for name, side in (("source", source), ("target", target)):
            if not side.strip():
                raise UserError(f"{row.where}: its {name} is empty; give lines of {PAIRS}")
        yield Pair(source, target, row.where)


def align(pair: Pair) -> list[str]:
    """The typed tokens of a source of pinyin, one for each character of the target.

    The source has a syllable or sign for each of them, or syllables for the hanzi alone; all other characters of the
    target then stand for themselves, whether or not they stand among the syllables. The 儿 that ends a syllable may be
    written r5, as dictionaries do. A sign of another width (`take_widths`) is that of the target.

    Raises:
        UserError: the source is no pinyin (`hzlm.pinyin.parse_pinyin`), or of another number of characters.
    """
    # a letter of the target that is no syllable stands for itself in the source too
    own = {character for character in pair.target if not is_hanzi(character)} - set(SYLLABLES)
    chunks = []
    for chunk in pair.source.split():
        if chunk in own:
            chunk = LITERAL + chunk
        elif "儿" in pair.target and _ERHUA.fullmatch(chunk):
            chunk = f"e{chunk}"
        chunks.append(chunk)
    given = parse_pinyin(" ".join(chunks), pair.where)
    tokens = _fill(given, pair.target) or take_widths(given, pair.target)
    if len(tokens) != len(pair.target):
        expected = f"{len(pair.target)}, {sum(map(is_hanzi, pair.target))} of them hanzi"
        remedy = "give a syllable or sign for each, or syllables for the hanzi alone"
        raise unequal(pair, len(tokens), expected, remedy)
    return tokens


def take_widths(tokens: Sequence[str], target: str) -> list[str]:
    """The tokens of a whole target, where the signs that are full-width or half-width forms of its signs at the same
    place, as `,` of `，`, are replaced by these; tokens of another number stay as they are.
    """
    if len(tokens) != len(target):
        return list(tokens)
    return [
        LITERAL + character if _is_form_of(token, character) else token
        for token, character in zip(tokens, target, strict=True)
    ]


def unequal(pair: Pair, found: int, expected: str, remedy: str) -> UserError:
    """The error that the source of a pair has `found` positions."""
    begun = " and ".join(repr(side[:_SHOWN]) for side in (pair.source, pair.target))
    what = f"its source has {found} positions, its target {expected} (they begin {begun})"
    return UserError(f"{pair.where}: {what}; {remedy}")


def _fill(given: Sequence[str], target: str) -> list[str] | None:
    """A token for each character of the target, where the given ones are the syllables of its hanzi, between which its
    other characters may stand too; None where they are not.
    """
    waiting = deque(given)
    tokens = []
    for character in target:
        if is_hanzi(character):
            if not waiting or waiting[0].startswith(LITERAL):
                return None
            tokens.append(waiting.popleft())
        else:
            tokens.append(LITERAL + character)
            if waiting and _is_form_of(waiting[0], character):
                waiting.popleft()
    return None if waiting else tokens


def _is_form_of(token: str, character: str) -> bool:
    """Whether a token is this character, standing for itself, but for its width."""
    return token.startswith(LITERAL) and _plain(token.removeprefix(LITERAL)) == _plain(character)


def _plain(character: str) -> str:
    """What a full-width or half-width form is a form of (Unicode Standard Annex 11); all else is itself."""
    kind, _, code = unicodedata.decomposition(character).partition(" ")
    return chr(int(code, 16)) if kind in _WIDTHS else character
