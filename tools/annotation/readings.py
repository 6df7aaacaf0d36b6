"""A reading as people type it."""

from hzlm.pinyin import TONED_SYLLABLES, UnknownSyllable, parse_syllable

NO_READING = -1
"""In place of a reading, for a character that is no hanzi."""

TYPED_AS = {"n": "en", "ng": "en"}
"""What is typed for 嗯, whose readings in the dictionary have no vowel."""

READING_INDEX = {reading: index for index, reading in enumerate(TONED_SYLLABLES)}
"""The place of a reading such as `zhong1` in `TONED_SYLLABLES`."""

_COMMON = frozenset(reading for reading in TONED_SYLLABLES if reading[:-1] not in TYPED_AS)


def typed_reading(reading: str) -> str | None:
    """What people type for a reading of a dictionary (`zhōng` or `zhong1`), as in `TONED_SYLLABLES`; None for no such.

    What bears no tone is neutral (`de` is `de5`).
    """
    if reading in _COMMON:
        return reading
    try:
        syllable, tone = parse_syllable(reading)
    except UnknownSyllable:
        return None
    return f"{TYPED_AS.get(syllable, syllable)}{tone or 5}"
