"""What became of a text on its way into a dataset."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hzlm.data.dataset import SPLITS
from hzlm.tools.ngram.build import NgramSummary

SHOWN_UNKNOWN = 20
"""How many of the unknown characters a report names."""


@dataclass
class Tally:
    """How many sentences, and how many characters in them."""

    sentences: int = 0
    characters: int = 0

    def count(self, characters: int) -> None:
        """Counts one sentence more."""
        self.sentences += 1
        self.characters += characters

    def __str__(self) -> str:
        return f"{self.sentences:12,} sentences {self.characters:14,} characters"


@dataclass
class Report:
    """Where the characters of the input went: `removed` is what is neither in `dropped` nor in `kept`."""

    files: dict[str, int] = field(default_factory=dict)
    """Characters read, by file."""
    removed: int = 0
    """Characters in no sentence: blanks, line ends, control characters; punctuation too where clauses are cut."""
    dropped: dict[str, Tally] = field(default_factory=dict)
    """Sentences left out, by cause."""
    kept: dict[str, Tally] = field(default_factory=lambda: {split: Tally() for split in SPLITS})
    """Sentences written, by split."""
    not_in_tsv: int = 0
    """Held-out sentences that pinyin notation cannot express, since they hold blanks: in the streams, in no .tsv."""
    vocabulary_size: int = 0
    """Characters that can be targets."""
    coverage: float = 0.0
    """Share of the training split's characters that are in the vocabulary."""
    unknown: dict[str, int] = field(default_factory=dict)
    """The characters most frequent in the training split among those that are not, with their counts."""
    ngram: NgramSummary | None = None
    """The n-gram model of the training split, where one was asked for."""
    seconds: float = 0.0
    """How long it took."""

    @property
    def characters(self) -> int:
        """Characters read."""
        return sum(self.files.values())

    def drop(self, cause: str, characters: int) -> None:
        """Counts a sentence that is left out."""
        self.dropped.setdefault(cause, Tally()).count(characters)

    def save(self, path: Path) -> None:
        """Writes the report as JSON."""
        content = {"characters": self.characters, **asdict(self)}
        # The name of a file that was read may be no UTF-8: a half of a surrogate pair is left as JSON's \\udc80.
        text = json.dumps(content, ensure_ascii=False, indent=2)
        path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")

    def __str__(self) -> str:
        """The report as lines for people."""
        lines = [
            f"read       {self.characters:,} characters in {len(self.files):,} files, {self.seconds:.1f} s",
            f"removed    {self.removed:,} characters (blanks, line ends, control characters, what parts clauses)",
            *(f"dropped    {tally}: {cause}" for cause, tally in sorted(self.dropped.items())),
            *(f"kept       {tally}: {split}" for split, tally in self.kept.items()),
            f"vocabulary {self.vocabulary_size:,} characters, {100 * self.coverage:.4f} % of the training text",
        ]
        if self.unknown:
            shown = ", ".join(f"{character} {count:,}" for character, count in self.unknown.items())
            lines.append(f"unknown    {shown}")
        if self.ngram is not None:
            lines.append(f"n-gram     {self.ngram}")
        if self.not_in_tsv:
            lines.append(f"no .tsv    {self.not_in_tsv:,} held-out sentences with blanks in them")
        return "\n".join(lines)
