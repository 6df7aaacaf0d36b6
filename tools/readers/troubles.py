"""What went wrong in the inputs, counted: nothing is dropped without a word."""

from collections import Counter
from typing import Any

_SHOWN_PLACES = 5


class Troubles:
    """Counts of what went wrong, by cause, with the first places of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """How often each cause was met."""
        self.places: dict[str, list[str]] = {}
        """The first few places of each cause, such as "news.txt, line 17"."""

    def note(self, cause: str, place: str, count: int = 1) -> None:
        """Counts a cause `count` times. In `place`, which may hold a file's name, bytes that are no UTF-8 become �."""
        self.counts[cause] += count
        self._add_place(cause, place.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))

    def merge(self, other: "Troubles") -> None:
        """Adds what another reader met, behind what was met here."""
        self.counts.update(other.counts)
        for cause, places in other.places.items():
            for place in places:
                self._add_place(cause, place)

    def to_json(self) -> dict[str, Any]:
        """Each cause with its "count" and "places", the most frequent first, as values of JSON."""
        return {cause: {"count": count, "places": self.places[cause]} for cause, count in self.counts.most_common()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Troubles":
        """What `to_json` gave."""
        troubles = cls()
        for cause, entry in value.items():
            troubles.counts[cause] = entry["count"]
            troubles.places[cause] = list(entry["places"])
        return troubles

    def _add_place(self, cause: str, place: str) -> None:
        places = self.places.setdefault(cause, [])
        if len(places) < _SHOWN_PLACES:
            places.append(place)
