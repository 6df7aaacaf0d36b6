import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import jieba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pypinyin import Style, pinyin

from hzlm.pinyin import TONED_SYLLABLES, is_hanzi
from hzlm.tools.annotation.annotate import Annotation, Annotator
from hzlm.tools.annotation.lexicon import pypinyin_hanzi
from hzlm.tools.annotation.readings import NO_READING, typed_reading

TEXT = st.lists(
    st.sampled_from(["银行", "行长", "地", "着", "项目", "的", "了", "卡拉OK", "一会儿", "3.5", "GDP", "。", " ", "\n"])
    | st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5)
    | st.text("，。？a1 Ωの\u3000\x00", max_size=2)
).map("".join)


@cache
def annotator() -> Annotator:
    return Annotator()


def annotate(sentence: str, by: Annotator | None = None) -> Annotation:
    annotation = (by or annotator()).annotate(sentence)
    assert annotation is not None
    return annotation


def spell(readings: npt.NDArray[np.int16]) -> str:
    return " ".join(TONED_SYLLABLES[reading] if reading != NO_READING else "-" for reading in readings)


def reading_of(marked: str, by: Annotator | None = None) -> str:
    """The reading of the hanzi between brackets."""
    place = marked.index("[")
    return TONED_SYLLABLES[annotate(re.sub(r"[\[\]]", "", marked), by).readings[place]]


def words_of(sentence: str, by: Annotator | None = None) -> list[str]:
    starts = annotate(sentence, by).word_starts.nonzero()[0].tolist()
    return [sentence[start:end] for start, end in pairwise([*starts, len(sentence)])]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("银行行长", "yin2 hang2 hang2 zhang3"),
        ("绿色，女儿", "lv4 se4 - nv3 er2"),
        ("唱卡拉OK3次", "chang4 ka3 la1 - - - ci4"),
        ("嗯〇", "en4 ling2"),
        ("", ""),
    ],
)
def test_readings(sentence: str, expected: str) -> None:
    assert spell(annotate(sentence).readings) == expected


@pytest.mark.parametrize("marked", ["项目[的]土地", "项目[的]确定", "目[的]地"])
def test_phrases_end_where_words_end(marked: str) -> None:
    assert reading_of(marked) == ("di4" if marked.startswith("目") else "de5")
    assert reading_of("为[了]无数人") == "le5"
    assert reading_of("温暖[和]阳光") == "he2"


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("他高兴[地]说", "de5"),
        ("更好[地]服务群众", "de5"),
        ("一步一步[地]往前走", "de5"),
        ("慢慢[地]走过来", "de5"),
        ("有计划[地]推进工作", "de5"),
        ("多[地]发生洪水", "di4"),
        ("这片[地]是他家的", "di4"),
        ("跑[得]很快", "de5"),
        ("高兴[得]跳起来", "de5"),
        ("我[得]去上班了", "dei3"),
        ("他[得]奖了", "de2"),
        ("走[着]去学校", "zhe5"),
        ("空[着]手回来", "zhe5"),
        ("从小事[着]手", "zhuo2"),
        ("怎么也睡不[着]", "zhao2"),
        ("孩子睡[着]了", "zhao2"),
        ("他吃[了]饭", "le5"),
        ("这事我做不[了]", "liao3"),
        ("疼得受得[了]吗", "liao3"),
        ("我还记得[了]", "le5"),
    ],
)
def test_particles(marked: str, expected: str) -> None:
    assert reading_of(marked) == expected


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("屋里有三[只]猫", "zhi1"),
        ("我[只]想回家", "zhi3"),
        ("这[只]是开始", "zhi3"),
        ("请把书[还]给我", "huan2"),
        ("他[还]没来", "hai2"),
        ("把书[还]给了图书馆", "huan2"),
        ("他[还]给弄丢了", "hai2"),
        ("第三[行]写错了", "hang2"),
        ("这样做不[行]", "xing2"),
        ("头发很[长]", "chang2"),
        ("草[长]得很高", "zhang3"),
        ("他[种]了一棵树", "zhong4"),
        ("这[种]花很香", "zhong3"),
        ("一箭射[中]了靶子", "zhong4"),
        ("传说[中]的英雄", "zhong1"),
        ("[为]了孩子", "wei4"),
        ("他被选[为]代表", "wei2"),
        ("[数]一数有几个", "shu3"),
        ("他[率]军出征", "shuai4"),
        ("死亡[率]下降", "lv4"),
        ("窗前[弹]琴", "tan2"),
        ("两颗[弹]", "dan4"),
        ("拉[卡]拉", "ka3"),
        ("鱼刺[卡]在喉咙里", "qia3"),
        ("这[都]是我的", "dou1"),
        ("他来当[都]督", "du1"),
        ("越[重]越好", "zhong4"),
        ("穿过[重]山", "chong2"),
        ("一共有多[重]呢", "zhong4"),
        ("[解]晓东在唱歌", "xie4"),
    ],
)
def test_heteronyms(marked: str, expected: str) -> None:
    assert reading_of(marked) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("花儿", "hua1 er2"),
        ("一会儿", "yi1 hui4 er2"),
        ("我们", "wo3 men5"),
        ("妈妈", "ma1 ma5"),
        ("桌子", "zhuo1 zi5"),
        ("石头", "shi2 tou5"),
        ("电子", "dian4 zi3"),
        ("一定", "yi1 ding4"),
        ("不要", "bu4 yao4"),
    ],
)
def test_tones_are_those_of_dictionaries(sentence: str, expected: str) -> None:
    assert spell(annotate(sentence).readings) == expected


def test_words_are_those_of_jieba() -> None:
    jieba.setLogLevel(60)
    for sentence in (
        "我们在北京的GDP是3。",
        "他来到了网易杭研大厦",
        "小明硕士毕业于中国科学院计算所",
        "项目的目的是为了无数人",
    ):
        assert words_of(sentence) == jieba.lcut(sentence)


@pytest.mark.parametrize("sentence", ["项目的土地", "为了无数人", "温暖和阳光", "他高兴地说", "我们在北京看长城"])
def test_the_second_reading_is_that_of_pypinyin(sentence: str) -> None:
    annotation = annotate(sentence)
    other = [typed_reading(reading) for (reading,) in pinyin(sentence, style=Style.TONE3, neutral_tone_with_five=True)]
    united = np.where(annotation.second == NO_READING, annotation.readings, annotation.second)
    assert spell(united).split() == other
    assert not (annotation.second == annotation.readings).any()


def test_there_is_no_second_reading_where_both_agree() -> None:
    assert spell(annotate("我们在北京看长城，3次").second) == " ".join("-" * 11)
    assert spell(annotate("项目的土地").second) == "- - di4 - -"


@settings(max_examples=150, deadline=None)
@given(TEXT)
@example("中 国")
@example("说地")
def test_everything_is_aligned(sentence: str) -> None:
    annotation = annotate(sentence)
    assert len(annotation.readings) == len(annotation.word_starts) == len(annotation.second) == len(sentence)
    assert (annotation.readings.dtype, annotation.word_starts.dtype) == (np.int16, np.bool_)
    assert annotation.second.dtype == np.int16
    for character, reading in zip(sentence, annotation.readings, strict=True):
        assert (reading == NO_READING) is not is_hanzi(character)
    assert not sentence or annotation.word_starts[0]


def test_a_hanzi_without_a_reading_spoils_its_sentence() -> None:
    unread = "\U0003134a"
    assert unread not in pypinyin_hanzi()
    assert annotator().annotate(f"中{unread}国") is None
    assert annotator().annotate(f"中国，{unread}。") is None


def test_user_dictionaries(tmp_path: Path) -> None:
    first, second = tmp_path / "first.tsv", tmp_path / "second.tsv"
    first.write_text("绝绝子\tjue2 jue2 zi3\n单字\tdan1 zi4\n差点意思\tcha1 dian3 yi4 si1\t99\n的\tdi4\n", "utf-8")
    second.write_text("单字\tshan4 zi4\n", "utf-8")
    with_words = Annotator([first, second])
    assert "绝绝子" not in words_of("这家店绝绝子啊")
    assert "绝绝子" in words_of("这家店绝绝子啊", with_words)
    assert reading_of("[单]字", with_words) == "shan4"
    assert reading_of("我[的]", with_words) == "di4"
    assert spell(annotate("单字").readings) == "dan1 zi4"


def test_there_is_no_second_reading_inside_a_user_word(tmp_path: Path) -> None:
    dictionary = tmp_path / "words.tsv"
    dictionary.write_text("单字\tshan4 zi4\n朝阳区\tchao2 yang2 qu1\n的\tde5\n", "utf-8")
    with_words = Annotator([dictionary])
    for sentence, second in (
        ("单字", "- -"),
        ("今朝阳区的人", "- - - - - -"),
        ("，今朝阳区2008", "- - - - - - - - -"),
        ("项目的土地", "- - - - -"),
        ("温暖和朝阳区", "- - huo5 - - -"),
    ):
        assert spell(annotate(sentence, with_words).second) == second, sentence
    for sentence, second in (("今朝阳区的人", "- zhao1 - - - -"), ("项目的土地", "- - di4 - -")):
        assert spell(annotate(sentence).second) == second, "else there is nothing to leave out"
