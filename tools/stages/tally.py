"""What a stage did: how much came in, how much went out, and what became of the rest."""

import resource
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from hzlm.tools.readers.troubles import Troubles


@dataclass
class Amount:
    """How many documents or sentences, and how many characters in them."""

    items: int = 0
    characters: int = 0

    def count(self, characters: int, items: int = 1) -> None:
        """Counts some more."""
        self.items += items
        self.characters += characters

    def __str__(self) -> str:
        return f"{self.items:12,} items {self.characters:14,} characters"


@dataclass
class Tally:
    """The account of one task, or of a whole stage: `read` is `kept`, `dropped` and `removed` together."""

    read: Amount = field(default_factory=Amount)
    """What came in."""
    kept: Amount = field(default_factory=Amount)
    """What went on to the next stage."""
    dropped: dict[str, Amount] = field(default_factory=dict)
    """What was left out, by cause."""
    removed: int = 0
    """Characters taken out of what was kept, such as blanks."""
    troubles: Troubles = field(default_factory=Troubles)
    """What was wrong with the input, by cause, with examples of where."""
    seconds: float = 0.0
    """Work of all processes together."""
    peak_memory_mb: int = 0
    """Largest memory of a process that worked on it, in MiB."""
    killed: int = 0
    """Processes that were killed before they had done it."""
    made: dict[str, Any] = field(default_factory=dict)
    """What else a task tells the stages behind it; a stage's own affair."""

    def drop(self, cause: str, characters: int) -> None:
        """Counts one document or sentence that is left out."""
        self.dropped.setdefault(cause, Amount()).count(characters)

    def add(self, other: Self) -> None:
        """Counts what another task of the stage did; `made` stays each task's own."""
        self.read.count(other.read.characters, other.read.items)
        self.kept.count(other.kept.characters, other.kept.items)
        self.removed += other.removed
        for cause, amount in other.dropped.items():
            self.dropped.setdefault(cause, Amount()).count(amount.characters, amount.items)
        self.troubles.merge(other.troubles)
        self.seconds += other.seconds
        self.killed += other.killed
        self.peak_memory_mb = max(self.peak_memory_mb, other.peak_memory_mb)

    def to_json(self) -> dict[str, Any]:
        """For a report; `from_json` reads it back."""
        return {**asdict(self), "troubles": self.troubles.to_json()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` made."""
        return cls(
            **{
                **stored,
                "read": Amount(**stored["read"]),
                "kept": Amount(**stored["kept"]),
                "dropped": {cause: Amount(**amount) for cause, amount in stored["dropped"].items()},
                "troubles": Troubles.from_json(stored["troubles"]),
            }
        )


def peak_memory_mb() -> int:
    """Largest memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
