"""What counts as a duplicate."""

from typing import Annotated

from pydantic import Field

from hzlm.settings import Section, Share


class DuplicatesConfig(Section):
    """Which documents are left out because the corpus had them before."""

    exact: bool = True
    """Those with the same hanzi, whatever their punctuation and blanks."""
    near: bool = True
    """Those that are nearly the same."""
    ngram: Annotated[int, Field(gt=0, le=64)] = 5
    """Hanzi of the n-grams whose sets are compared; five are about three words."""
    similarity: Share = 0.72
    """Share of common n-grams from which on documents are probably found to be similar."""
