"""What a syllable may stand for beside what it says: sounds that people confuse, and typing slips."""

from collections.abc import Sequence
from dataclasses import dataclass

from hzlm.decode.beam import CandidateTable
from hzlm.pinyin import SYLLABLE, TONES
from hzlm.sounds import fuzzy_alternatives, slip_alternatives
from hzlm.vocabulary import Vocabulary


@dataclass(frozen=True, order=True)
class Tolerance:
    """What may be meant by the syllables of a source."""

    fuzzy: tuple[str, ...] = ()
    """Sounds that may stand for each other, of `hzlm.data_config.FUZZY_PAIRS`."""
    slips: bool = False
    """Whether a syllable may be what one typing slip made of another one."""


EXACT = Tolerance()
"""Every syllable stands for itself."""


def tolerant_table(vocabulary: Vocabulary, tolerance: Tolerance) -> CandidateTable:
    """The targets of each source token, with those of what may be meant by it."""
    return CandidateTable(
        vocabulary,
        {
            vocabulary.id_of(f"{SYLLABLE}{typed}{tone}"): [
                vocabulary.id_of(f"{SYLLABLE}{other}{tone}") for other in others
            ]
            for typed, others in _find_meant(tolerance).items()
            for tone in ("", *TONES)
        },
    )


def _find_meant(tolerance: Tolerance) -> dict[str, Sequence[str]]:
    """Syllable that is typed -> the others that may be meant, sorted."""
    meant = {typed: set(others) for typed, others in fuzzy_alternatives(tolerance.fuzzy).items()}
    if tolerance.slips:
        for syllable, slips in slip_alternatives().items():
            for typed in slips:
                meant.setdefault(typed, set()).add(syllable)
    return {typed: sorted(others) for typed, others in meant.items()}
