from collections.abc import Callable
from functools import cache

import pytest
from pypinyin import Style, pinyin

from hzlm.pinyin import TONED_SYLLABLES
from hzlm.tools.annotation.contexts import CONTEXTS
from hzlm.tools.annotation.corrections import HANZI, LOOSE, WORDS
from hzlm.tools.annotation.lexicon import Lexicon, pypinyin_hanzi
from hzlm.tools.annotation.readings import READING_INDEX
from hzlm.tools.annotation.rules import parse_rules


@cache
def lexicon() -> Lexicon:
    return Lexicon(lambda word: len(word) < 3, {"单字": (READING_INDEX["shan4"], READING_INDEX["zi4"])})


def spell(word: str) -> str:
    spelling = lexicon().read(word)
    assert spelling is not None
    return " ".join(TONED_SYLLABLES[reading] for reading in spelling.readings)


def test_the_order_of_the_sources() -> None:
    assert spell("单字") == "shan4 zi4"
    assert spell("肚子") == "du4 zi5"
    assert spell("银行") == "yin2 hang2"
    assert spell("全长") == "quan2 chang2"
    assert spell("鑫") == "xin1"


def test_a_word_is_made_of_its_longest_entries() -> None:
    assert spell("银行单字长") == "yin2 hang2 shan4 zi4 chang2"
    spelling = lexicon().read("长银行长")
    assert spelling is not None
    assert spelling.loose == (0, 3)


def test_what_is_given_is_told_apart() -> None:
    for word, given in (("单字", (0, 1)), ("银行单字长", (2, 3)), ("银行", ())):
        spelling = lexicon().read(word)
        assert spelling is not None
        assert spelling.given == given


def test_what_has_no_reading() -> None:
    assert lexicon().read("中\U0003134a") is None
    assert lexicon().read("中a") is None


def test_the_first_readings_are_those_of_pypinyin() -> None:
    for hanzi in "中国人民银行长城北京大学":
        ((reading,),) = pinyin(hanzi, style=Style.TONE3, neutral_tone_with_five=True)
        assert TONED_SYLLABLES[pypinyin_hanzi()[hanzi]] == reading


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        (HANZI, lambda item: len(item) > 2 and item[1:] in READING_INDEX),
        (LOOSE, lambda item: len(item) > 1 and lexicon().read(item) is not None),
    ],
)
def test_each_hanzi_and_word_is_said_once(text: str, is_right: Callable[[str], bool]) -> None:
    items = text.split()
    assert [item for item in items if not is_right(item)] == []
    assert len({item[0] if text is HANZI else item for item in items}) == len(items)


def test_each_correction_holds() -> None:
    said: dict[tuple[str, str], str] = {}
    for line in WORDS.split("\n")[1:-1]:
        corrected, *words = line.split()
        for word in words:
            assert corrected[0] in word
            assert said.setdefault((word, corrected[0]), corrected[1:]) == corrected[1:], f"{word}: two readings"
            assert corrected[1:] in spell(word).split()


def test_loose_words_have_rules() -> None:
    ruled = set(parse_rules(CONTEXTS))
    assert [word for word in LOOSE.split() if not ruled & set(word)] == []
