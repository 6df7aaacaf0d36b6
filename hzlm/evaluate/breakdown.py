"""Right characters by what makes them hard: homophones, readings, length of the sentence, what the source says."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hzlm.decode.converter import Source
from hzlm.vocabulary import Vocabulary

LENGTHS = ((5, "1-5"), (10, "6-10"), (20, "11-20"), (40, "21-40"))
"""The longest sentence of each class, in characters, and its name; longer ones are LONGEST."""
LONGEST = ">40"

HOMOPHONES = ((0, "0"), (1, "1"), (5, "2-5"), (20, "6-20"))
"""The most candidates of each class, and its name; more are MOST_HOMOPHONES."""
MOST_HOMOPHONES = ">20"

KINDS = ("syllable", "toned", "key", "mask", "hanzi", "unknown")
"""What a source position carries; `unknown` is a syllable that no hanzi of the vocabulary has."""

POLYPHONY = ("one reading", "several readings", "no known reading")


@dataclass(frozen=True)
class Tally:
    """Right characters among counted ones."""

    right: int
    total: int

    @property
    def share(self) -> float:
        """Right ones by all, 0 to 1; 1 where nothing is counted."""
        return self.right / self.total if self.total else 1.0


Breakdown = Mapping[str, Mapping[str, Tally]]
"""Name of a division -> name of each of its classes, in order -> its tally; classes without a character are left out.

The classes of one division add up to all counted characters, and the tallies of two sets of sentences may be summed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A character that a source position asks for, and what a system gave."""

    right: str
    given: str
    source_id: int
    """The token of the source position."""
    length: int
    """Characters of the whole sentence."""


def answers_of(source: Source, right: str, given: str) -> Iterator[Answer]:
    """One answer for each position that is neither context nor stands for itself, in order.

    Args:
        source: what the system read.
        right: the sentence.
        given: what the system made of it, of the same length.
    """
    place = 0
    for source_id, literal in zip(source.ids[source.context :].tolist(), source.literals, strict=True):
        if literal is None:
            yield Answer(right[place], given[place], source_id, len(right))
        place += 1 if literal is None else len(literal)


def break_down(answers: Iterable[Answer], vocabulary: Vocabulary) -> Breakdown:
    """Tallies by `homophones` (how many hanzi fit the source token as it stands), `polyphony` (of the right hanzi:
    readings that the training text shows), `length` (of the sentence) and `kind` (of the source token).
    """
    tallies: dict[tuple[str, str], list[int]] = {}
    classes_of_source: dict[int, tuple[str, str]] = {}
    for answer in answers:
        if answer.source_id not in classes_of_source:
            kind = kind_of(answer.source_id, vocabulary)
            found = 0 if kind == "unknown" else len(vocabulary.candidates(answer.source_id))
            classes_of_source[answer.source_id] = class_of(found, HOMOPHONES, MOST_HOMOPHONES), kind
        homophones, kind = classes_of_source[answer.source_id]
        classes = {
            "homophones": homophones,
            "polyphony": _polyphony_of(answer.right, vocabulary),
            "length": class_of(answer.length, LENGTHS, LONGEST),
            "kind": kind,
        }
        for division in classes.items():
            tally = tallies.setdefault(division, [0, 0])
            tally[0] += answer.right == answer.given
            tally[1] += 1
    orders = {
        "homophones": (*(name for _, name in HOMOPHONES), MOST_HOMOPHONES),
        "polyphony": POLYPHONY,
        "length": (*(name for _, name in LENGTHS), LONGEST),
        "kind": KINDS,
    }
    return {
        division: {name: Tally(*tallies[division, name]) for name in names if (division, name) in tallies}
        for division, names in orders.items()
    }


def class_of(number: int, classes: Iterable[tuple[int, str]], above: str) -> str:
    """The name of the first class whose bound is no lower than `number`, or else `above`."""
    return next((name for bound, name in classes if number <= bound), above)


def kind_of(source_id: int, vocabulary: Vocabulary) -> str:
    """Which of KINDS a token of a source is."""
    if source_id >= vocabulary.target_start:
        return "hanzi"
    if source_id >= vocabulary.key_start:
        return "key"
    if source_id >= vocabulary.toned_start:
        return "toned"
    if source_id >= vocabulary.syllable_start:
        return "syllable"
    return "mask" if source_id == vocabulary.mask_id else "unknown"


def _polyphony_of(hanzi: str, vocabulary: Vocabulary) -> str:
    one, several, unknown = POLYPHONY
    if hanzi not in vocabulary.readings:
        return unknown
    return several if sum(count > 0 for count in vocabulary.readings[hanzi].values()) > 1 else one
