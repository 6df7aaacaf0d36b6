"""The typed tokens and their ids, and which hanzi may be read how."""

import codecs
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hzlm.errors import UserError
from hzlm.pieces import NEVER_BYTES, RUN, Pieces
from hzlm.pinyin import KEYS, LITERAL, SYLLABLE, SYLLABLES, TONED_SYLLABLES, TONES
from hzlm.stored_json import load_json

SPECIALS: tuple[str, ...] = ("[PAD]", "[BOS]", "[MASK]", "[UNK]")
"""Ids 0 to 3: filling, start of the target, an unknown position, a character outside the vocabulary."""

UNKNOWN_TEXT = "□"
"""How [UNK] is shown."""

READING_PRIOR = 0.5
"""Occurrences that every reading of a hanzi has beside those seen in the training text."""

FORMAT = "hzlm-vocabulary"
VERSION = 2

BYTES = 256
"""Byte tokens of a vocabulary with pieces."""

_TONED_INDEX = {reading: index for index, reading in enumerate(TONED_SYLLABLES)}
_RUN_APART = re.compile(f"({RUN.pattern})")

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids.

    Specials, then S toneless syllables (`syl:a`), 5 S syllables with tone (`syl:a1`, at toned_start + 5 syllable +
    tone - 1), keys (`key:zh`), and the targets: characters (`lit:中`), the most frequent first, and with pieces those
    (`lit:ing`) and the 256 bytes (`byte:E4`). What comes before `target_start` is never a target, and the same in every
    vocabulary.

    A token is one position of a sentence: a character, or with pieces also a piece of a run of letters and digits, or
    a byte of the UTF-8 of a character that is neither hanzi nor known.
    """

    characters: tuple[str, ...]
    """The characters that can be targets, most frequent first; with pieces no letters and digits."""
    readings: Mapping[str, Mapping[str, int]]
    """Hanzi -> reading (`zhong1`) -> how often the training text shows it; 0 where a dictionary alone does."""
    pieces: Pieces | None = None
    """What runs of letters and digits are cut into; None: into characters as all else."""

    pad_id = SPECIALS.index("[PAD]")
    bos_id = SPECIALS.index("[BOS]")
    mask_id = SPECIALS.index("[MASK]")
    unknown_id = SPECIALS.index("[UNK]")
    syllable_start = len(SPECIALS)
    toned_start = syllable_start + len(SYLLABLES)
    key_start = toned_start + len(TONED_SYLLABLES)
    target_start = key_start + len(KEYS)

    def __post_init__(self) -> None:
        """Raises `ValueError`, saying what, where the fields contradict themselves."""
        known = set(self.characters)
        if len(known) != len(self.characters) or any(len(character) != 1 for character in known):
            raise ValueError("characters are not distinct single characters")
        if self.pieces is not None and any(map(RUN.fullmatch, known)):
            raise ValueError("there are pieces, and beside them characters that only pieces are made of")
        strangers = self.readings.keys() - known
        if strangers:
            raise ValueError(f"readings are given for {min(strangers)!r}, which is none of the characters")
        for hanzi, counts in self.readings.items():
            if not counts or not _TONED_INDEX.keys() >= counts.keys() or min(counts.values()) < 0:
                raise ValueError(f"the readings of {hanzi} are not syllables with tone and counts: {dict(counts)}")

    @property
    def target_size(self) -> int:
        """How many tokens can be targets."""
        return self.size - self.target_start

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self._byte_start + (0 if self.pieces is None else BYTES)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Every typed token, by id."""
        return (
            *SPECIALS,
            *(SYLLABLE + syllable for syllable in SYLLABLES),
            *(SYLLABLE + reading for reading in TONED_SYLLABLES),
            *(f"key:{key}" for key in KEYS),
            *(LITERAL + text for text in self._texts),
            *(f"byte:{byte:02X}" for byte in range(self.size - self._byte_start)),
        )

    def id_of(self, token: str) -> int:
        """The id of a typed token. Raises `KeyError` where it is none of this vocabulary."""
        return self._id_of_token[token]

    def encode(self, text: str) -> Ids:
        """Text -> int32 [positions]. [UNK] for hanzi that it lacks, and without pieces for all that it lacks."""
        return np.fromiter((token_id for unit in self._units(text) for token_id in self._ids_of(unit)), np.int32)

    def cut(self, text: str) -> list[str]:
        """What of the text stands at each position of `encode(text)`; all of them joined are the text.

        A character of several bytes stands at the last of them, and "" at the others.
        """
        return [part for unit in self._units(text) for part in [*[""] * (len(self._ids_of(unit)) - 1), unit]]

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> str:
        """Target ids -> text: □ for [UNK], U+FFFD for bytes that are no UTF-8.

        Raises:
            ValueError: an id is never a target.
        """
        return "".join(self.texts(ids))

    def texts(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> list[str]:
        """What of `decode(ids)` stands at each position; of several bytes at the last, as in `cut`."""
        if self.pieces is None:
            return list(map(self._text_of, ids))
        found: list[str] = []
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token_id in ids:
            if self._byte_start <= token_id < self.size:
                found.append(decoder.decode(bytes([token_id - self._byte_start])))
                continue
            if rest := decoder.decode(b"", final=True):
                found[-1] += rest
            found.append(self._text_of(token_id))
        if rest := decoder.decode(b"", final=True):
            found[-1] += rest
        return found

    def toneless(self, ids: npt.NDArray[np.integer]) -> Ids:
        """Ids of any shape -> int32 of that shape: syllables lose their tone, all else stays."""
        toned = (ids >= self.toned_start) & (ids < self.key_start)
        return np.where(toned, self.syllable_start + (ids - self.toned_start) // len(TONES), ids).astype(np.int32)

    def candidates(self, token_id: int) -> Ids:
        """Target ids allowed where the source carries this id, the likeliest first.

        A syllable, with or without tone, and a key allow the hanzi that are read so, those seen oftenest with it
        first; [MASK] and [UNK] allow every target; a target allows itself; [PAD] and [BOS] allow nothing.

        Returns:
            int32 [candidates].
        """
        if token_id >= self.target_start:
            return np.array([token_id], np.int32)
        if token_id in (self.mask_id, self.unknown_id):
            return np.arange(self.target_start, self.size, dtype=np.int32)
        return self._hanzi_by_source.get(token_id, (np.empty(0, np.int32), np.empty(0, np.float32)))[0]

    def reading_log_probabilities(self, token_id: int) -> npt.NDArray[np.float32]:
        """How likely it is that each candidate is read as the source says: natural logarithms, float32 [candidates].

        The share of the hanzi's occurrences in the training text, with READING_PRIOR added to each of its readings; 0
        (certain) where the source says nothing of the reading or is the target itself. In the order of `candidates`.
        """
        if token_id in self._hanzi_by_source:
            return self._hanzi_by_source[token_id][1]
        return np.zeros(len(self.candidates(token_id)), np.float32)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of all that the vocabulary holds, in canonical JSON."""
        canonical = json.dumps(self._as_json(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Writes the vocabulary as JSON."""
        text = json.dumps({**self._as_json(), "fingerprint": self.fingerprint}, ensure_ascii=False, indent=0)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Reads what `save` wrote. Raises `UserError` where the file is missing, damaged or of another version."""
        stored = load_json(path, "prepare the dataset again")
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise UserError(f"{path}: no vocabulary of hzlm; pass the vocabulary.json of a dataset or checkpoint")
        if [stored.get(name) for name in ("version", "syllables", "keys")] != [VERSION, list(SYLLABLES), list(KEYS)]:
            raise UserError(f"{path}: this vocabulary was made by another version of hzlm; prepare the dataset again")
        try:
            vocabulary = cls(tuple(stored["characters"]), stored["readings"], _parse_pieces(stored["pieces"]))
            fingerprint = vocabulary.fingerprint
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: this vocabulary is damaged: {error}; prepare it again") from error
        if fingerprint != stored.get("fingerprint"):
            raise UserError(f"{path}: this vocabulary is damaged: its fingerprint does not fit; prepare it again")
        return vocabulary

    def _as_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "syllables": list(SYLLABLES),
            "keys": list(KEYS),
            "characters": list(self.characters),
            "readings": {hanzi: dict(counts) for hanzi, counts in self.readings.items()},
            "pieces": self.pieces and [list(pair) for pair in zip(self.pieces.texts, self.pieces.scores, strict=True)],
        }

    @cached_property
    def _id_of_token(self) -> dict[str, int]:
        return {token: token_id for token_id, token in enumerate(self.tokens)}

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        """The text of every target but the bytes."""
        return self.characters if self.pieces is None else self.characters + self.pieces.texts

    @cached_property
    def _byte_start(self) -> int:
        return self.target_start + len(self._texts)

    @cached_property
    def _id_of_text(self) -> dict[str, int]:
        return {text: token_id for token_id, text in enumerate(self._texts, self.target_start)}

    def _units(self, text: str) -> Iterator[str]:
        """The text as characters and pieces."""
        if self.pieces is None:
            yield from text
            return
        for place, part in enumerate(_RUN_APART.split(text)):
            yield from self.pieces.cut(part) if place % 2 else part

    def _ids_of(self, unit: str) -> Sequence[int]:
        """The ids of what `_units` gives: one, or those of several bytes."""
        token_id = self._id_of_text.get(unit)
        if token_id is not None:
            return (token_id,)
        if self.pieces is None or NEVER_BYTES.match(unit):
            return (self.unknown_id,)
        return [self._byte_start + byte for byte in unit.encode()]

    def _text_of(self, token_id: int) -> str:
        if token_id == self.unknown_id:
            return UNKNOWN_TEXT
        if not self.target_start <= token_id < self._byte_start:
            raise ValueError(f"id {token_id} is no target")
        return self._texts[token_id - self.target_start]

    @cached_property
    def _hanzi_by_source(self) -> dict[int, tuple[Ids, npt.NDArray[np.float32]]]:
        """Syllables, toned syllables and keys -> hanzi and the logarithms of `reading_log_probabilities`.

        The hanzi seen oftenest with it first, then by their own frequency.
        """
        found: dict[int, dict[int, tuple[int, float]]] = {}
        for hanzi, readings in self.readings.items():
            hanzi_id = self._id_of_text[hanzi]
            total = sum(readings.values()) + READING_PRIOR * len(readings)
            for reading, count in readings.items():
                share = (count + READING_PRIOR) / total
                for source in self._sources_of(reading):
                    of_source = found.setdefault(source, {})
                    count_before, share_before = of_source.get(hanzi_id, (0, 0.0))
                    of_source[hanzi_id] = count_before + count, share_before + share
        by_source = {}
        for source, of_source in found.items():
            order = sorted(of_source, key=lambda hanzi: (-of_source[hanzi][0], hanzi))
            shares = np.array([of_source[hanzi][1] for hanzi in order])
            by_source[source] = np.array(order, np.int32), np.log(shares).astype(np.float32)
        return by_source

    def _sources_of(self, reading: str) -> list[int]:
        """The ids that may stand in a source for a hanzi read so."""
        toned = _TONED_INDEX[reading]
        keys = [self.key_start + index for index, key in enumerate(KEYS) if reading.startswith(key)]
        return [self.syllable_start + toned // len(TONES), self.toned_start + toned, *keys]


def _parse_pieces(stored: Any) -> Pieces | None:
    """The pieces of a vocabulary's JSON. Raises `TypeError` or `ValueError` where it is none."""
    if stored is None:
        return None
    return Pieces(tuple(text for text, _ in stored), tuple(score for _, score in stored))
