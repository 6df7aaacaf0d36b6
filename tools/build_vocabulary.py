"""A vocabulary out of training text and the dictionary."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from pypinyin.constants import PINYIN_DICT

from hzlm.errors import UserError
from hzlm.pieces import RUN
from hzlm.settings import Section, Share, Size
from hzlm.tools.annotation.readings import typed_reading
from hzlm.tools.count_text import PairCounts
from hzlm.tools.train_pieces import train_pieces
from hzlm.vocabulary import Vocabulary

COVERAGE = 0.9999


class VocabularyConfig(Section):
    """What a vocabulary holds."""

    path: Path | None = None
    """Take this vocabulary and build none; nothing else may be set then."""
    coverage: Share | None = None
    """Share of the training text's characters that it holds; null: 0.9999, where no `size` is given."""
    size: Size | None = None
    """How many characters it holds, instead of `coverage`: those that it must, then the most frequent."""
    gb2312: bool = True
    """Whether it must hold the 3,755 hanzi of level 1 of GB 2312, which people expect to be able to type."""
    include: tuple[Path, ...] = ()
    """Files of UTF-8 text whose characters, but for blanks, it must hold."""
    pieces: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    """Pieces, beside the characters, that runs of letters and digits are cut into (sentencepiece); 0: characters."""

    @model_validator(mode="after")
    def _goes_together(self) -> "VocabularyConfig":
        if self.coverage is not None and self.size is not None:
            raise ValueError("vocabulary.coverage and vocabulary.size are two ways to say the same; give one of them")
        if self.path is not None:
            for name, field in type(self).model_fields.items():
                if name != "path" and getattr(self, name) != field.default:
                    raise ValueError(
                        f"vocabulary.{name} builds a vocabulary, but vocabulary.path names one; leave one out"
                    )
        return self


def build_vocabulary(counts: PairCounts, settings: VocabularyConfig, runs: Mapping[str, int]) -> Vocabulary:
    """The vocabulary of what it must hold and of the most frequent characters.

    A hanzi's readings are those of the dictionary united with those that the text shows. With pieces, the letters and
    digits are theirs and no characters: neither `coverage` nor `size` counts them.

    Args:
        counts: of the training text.
        settings: `path` is not looked at.
        runs: run of letters and digits -> occurrences; needed for pieces alone.

    Raises:
        UserError: a file of `include` cannot be read, or what it must hold is more than `size` or `pieces`.
    """
    totals: Counter[str] = Counter()
    for (character, _), count in counts.items():
        totals[character] += count
    needed = gb2312_level_1() if settings.gb2312 else set()
    needed = needed.union(*map(read_characters, settings.include))
    pieces = None
    if settings.pieces:
        letters = {character for character in totals.keys() | needed if RUN.fullmatch(character)}
        pieces = train_pieces(runs, settings.pieces, needed & letters)
        needed -= letters
        for letter in letters:
            del totals[letter]
    characters = _choose(totals, needed, settings)
    readings = {character: dict.fromkeys(dictionary_readings(character), 0) for character in characters}
    for (character, reading), count in counts.items():
        if reading is not None and character in readings:
            readings[character][reading] = count
    known = {hanzi: of_hanzi for hanzi, of_hanzi in readings.items() if of_hanzi}
    return Vocabulary(tuple(characters), known, pieces)


def gb2312_level_1() -> set[str]:
    """The 3,755 common hanzi of GB 2312-80: its rows 16 to 55."""
    cells = (bytes([0xA0 + row, 0xA0 + cell]) for row in range(16, 56) for cell in range(1, 95))
    return {cell.decode("gb2312", errors="ignore") for cell in cells} - {""}


def dictionary_readings(character: str) -> list[str]:
    """The readings that pypinyin's single-character dictionary has, as in `zhong1`; none for what is no hanzi."""
    typed = map(typed_reading, PINYIN_DICT.get(ord(character), "").split(","))
    return [reading for reading in typed if reading is not None]


def _choose(totals: Counter[str], needed: set[str], settings: VocabularyConfig) -> list[str]:
    """The characters, the most frequent first."""
    if settings.size is not None and len(needed) > settings.size:
        raise UserError(
            f"vocabulary.size is {settings.size}, but {len(needed)} characters must be in it; give a larger one, or "
            "set vocabulary.gb2312 to false"
        )
    ranked = sorted(totals.keys() | needed, key=lambda character: (-totals[character], character))
    chosen = set(needed)
    optional = (character for character in ranked if character not in needed)
    if settings.size is not None:
        chosen.update(character for character, _ in zip(optional, range(settings.size - len(needed)), strict=False))
    else:
        wanted = (settings.coverage or COVERAGE) * totals.total()
        covered = sum(totals[character] for character in needed)
        for character in optional:
            if covered >= wanted:
                break
            chosen.add(character)
            covered += totals[character]
    return [character for character in ranked if character in chosen]


def read_characters(path: Path) -> set[str]:
    """The characters of a file, but for blanks. Raises `UserError` where it cannot be read or is no UTF-8 text."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a file of characters") from error
    except UnicodeDecodeError:
        raise UserError(f"{path}: no UTF-8 text; convert it to UTF-8 first") from None
    return {character for character in text if not character.isspace()}
