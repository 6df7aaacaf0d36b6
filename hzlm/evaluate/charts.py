"""What is worth a picture: shares by class, of one system or of several beside each other."""

from collections.abc import Mapping
from dataclasses import dataclass

from hzlm.evaluate.breakdown import Tally


@dataclass(frozen=True)
class Chart:
    """A group of bars for each class, one of each system."""

    name: str
    """Of its file, without the ending."""
    title: str
    label: str
    """What the classes are."""
    systems: Mapping[str, Mapping[str, Tally]]
    """System -> class -> tally; all systems have the same classes in the same order."""
