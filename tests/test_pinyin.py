import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.errors import UserError
from hzlm.pinyin import (
    KEYS,
    SYLLABLES,
    TONES,
    UnknownSyllable,
    format_pinyin,
    is_hanzi,
    nearest_syllable,
    parse_pinyin,
    parse_syllable,
)


def write_with_mark(syllable: str, tone: int) -> str:
    """A syllable with its tone mark, by the rule of the official orthography: on a or e, else on o, else on the last
    vowel.
    """
    vowels = [i for i, letter in enumerate(syllable) if letter in "aeiouv"]
    place = next((i for letter in "aeo" for i in vowels if syllable[i] == letter), vowels[-1])
    mark = {1: "\u0304", 2: "\u0301", 3: "\u030c", 4: "\u0300", 5: ""}[tone]
    marked = syllable[: place + 1] + mark + syllable[place + 1 :]
    return unicodedata.normalize("NFC", marked.replace("v", "u\u0308"))


def test_syllables_are_sorted_distinct_and_hold_every_reading_of_pypinyin() -> None:
    from pypinyin.constants import PHRASES_DICT, PINYIN_DICT

    assert list(SYLLABLES) == sorted(set(SYLLABLES))
    single = {reading for readings in PINYIN_DICT.values() for reading in readings.split(",")}
    phrases = {reading for word in PHRASES_DICT.values() for readings in word for reading in readings}
    found = {parse_syllable(reading)[0] for reading in single | phrases}
    assert found == set(SYLLABLES)


def test_every_syllable_begins_with_a_key_and_every_key_begins_one() -> None:
    assert all(any(syllable.startswith(key) for key in KEYS) for syllable in SYLLABLES)
    assert all(any(syllable.startswith(key) for syllable in SYLLABLES) for key in KEYS)


@given(st.sampled_from(SYLLABLES), st.sampled_from(TONES))
def test_tone_as_digit_and_as_mark(syllable: str, tone: int) -> None:
    assert parse_syllable(f"{syllable}{tone}") == (syllable, tone)
    assert parse_syllable(f"{syllable.upper()}{tone}") == (syllable, tone)
    assert parse_syllable(syllable) == (syllable, None)
    if set(syllable) & set("aeiouv"):
        assert parse_syllable(write_with_mark(syllable, tone)) == (syllable, tone if tone != 5 else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zhong", ("zhong", None)),
        ("ZHONG4", ("zhong", 4)),
        ("lü4", ("lv", 4)),
        ("lu:4", ("lv", 4)),
        ("lǜ", ("lv", 4)),
        ("lüe", ("lve", None)),
        ("nue4", ("nve", 4)),
        ("lu4", ("lu", 4)),
        ("jv2", ("ju", 2)),
        ("xü", ("xu", None)),
        ("de0", ("de", 5)),
        ("ề", ("e", 4)),
        ("ḿ", ("m", 2)),
        ("ｚｈｏｎｇ", ("zhong", None)),
    ],
)
def test_ways_to_write_a_syllable(text: str, expected: tuple[str, int | None]) -> None:
    assert parse_syllable(text) == expected


@pytest.mark.parametrize("text", ["", "4", "zh", "zhog", "zhong6", "zhong44", "zhòng4", "中", "wo ai", "lu2:"])
def test_what_is_no_syllable(text: str) -> None:
    with pytest.raises(UnknownSyllable):
        parse_syllable(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("zhogn", "zhong"), ("xiagn4", "xiang"), ("beij", "bei"), ("shaung", "shuang"), ("123", None), ("中", None)],
)
def test_nearest_syllable(text: str, expected: str | None) -> None:
    assert nearest_syllable(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wo ai  bei\tjing\n", "syl:wo syl:ai syl:bei syl:jing"),
        ("xi'an nü’er", "syl:xi syl:an syl:nv syl:er"),
        ("bei jing,2008 nian", "syl:bei syl:jing lit:, lit:2 lit:0 lit:0 lit:8 syl:nian"),
        ("ni3hao3ma。", "syl:ni3 syl:hao3 syl:ma lit:。"),
        ("wo2008 wo6 wo 3", "syl:wo lit:2 lit:0 lit:0 lit:8 syl:wo lit:6 syl:wo lit:3"),
        ("dao lu: nu:er lu:4 lu:e", "syl:dao syl:lu lit:: syl:nu lit:: syl:er syl:lv4 syl:lve"),
        ("yong lit:GDP lit:中'", "syl:yong lit:G lit:D lit:P lit:中 lit:'"),
    ],
)
def test_parse_pinyin(text: str, expected: str) -> None:
    assert parse_pinyin(text, "input") == expected.split(" ")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("wo ai zhogn guo", ["input, line 7", "piece 3", '"zhogn"', "zhong"]),
        ("wo'xx", ["input, line 7", "piece 2", '"xx"']),
        ("woaibeijing", ["piece 1", "wo ai bei jing"]),
        ("wo 爱 bei jing", ["input, line 7", "piece 2", "hanzi 爱"]),
        ("", ["input, line 7", "no pinyin"]),
        (" \n", ["input, line 7", "no pinyin"]),
    ],
)
def test_bad_pinyin_is_explained_in_one_line(text: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse_pinyin(text, "input, line 7")
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


SYLLABLE_TOKENS = st.builds(
    lambda syllable, tone: f"syl:{syllable}{tone}", st.sampled_from(SYLLABLES), st.sampled_from(["", *"12345"])
)
LITERAL_TOKENS = st.characters(exclude_categories=["Cs"]).filter(lambda c: not c.isspace()).map("lit:{}".format)


@given(st.lists(SYLLABLE_TOKENS | LITERAL_TOKENS, min_size=1))
def test_any_tokens_survive_being_written_and_read(tokens: list[str]) -> None:
    assert parse_pinyin(format_pinyin(tokens), "input") == tokens


def test_white_space_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="blank"):
        format_pinyin(["lit: "])


@pytest.mark.parametrize(
    ("character", "expected"), [("中", True), ("〇", True), ("𠮷", True), ("a", False), ("。", False), ("の", False)]
)
def test_is_hanzi(character: str, expected: bool) -> None:
    assert is_hanzi(character) is expected
