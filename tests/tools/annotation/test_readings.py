import pytest

from hzlm.pinyin import TONED_SYLLABLES
from hzlm.tools.annotation.readings import READING_INDEX, typed_reading


@pytest.mark.parametrize(
    ("reading", "expected"),
    [("zhōng", "zhong1"), ("zhong1", "zhong1"), ("de", "de5"), ("ǹg", "en4"), ("ng4", "en4"), ("ê̄", "e1"), ("x", None)],
)
def test_typed_reading(reading: str, expected: str | None) -> None:
    assert typed_reading(reading) == expected


def test_the_index_is_the_place_in_the_table() -> None:
    assert [TONED_SYLLABLES[index] for index in READING_INDEX.values()] == list(READING_INDEX)
