import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypinyin import Style, pinyin

from hzlm.pinyin import TONED_SYLLABLES
from hzlm.tools.annotation.phrases import PhraseReader
from hzlm.tools.annotation.readings import NO_READING, READING_INDEX, typed_reading

READER = PhraseReader({"单字": (READING_INDEX["shan4"], READING_INDEX["zi4"])})


@pytest.mark.parametrize("sentence", ["银行行长在重庆", "他长得很高", "音乐家的快乐", "和平与和面", "会计开会"])
def test_it_reads_as_pypinyin_does(sentence: str) -> None:
    known = pinyin(sentence, style=Style.TONE3, neutral_tone_with_five=True)
    assert [TONED_SYLLABLES[reading] for reading in READER.read(sentence)] == [typed_reading(r) for (r,) in known]


@settings(deadline=None)
@given(st.text("项目的土地行长重a。"))
def test_it_is_aligned(sentence: str) -> None:
    readings = READER.read(sentence)
    assert len(readings) == len(sentence)
    assert [reading == NO_READING for reading in readings] == [character in "a。" for character in sentence]


def test_words_given_are_phrases() -> None:
    assert [TONED_SYLLABLES[reading] for reading in READER.read("一单字")] == ["yi1", "shan4", "zi4"]
