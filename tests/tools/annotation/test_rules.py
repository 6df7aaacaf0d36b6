import pytest

from hzlm.tools.annotation.contexts import CONTEXTS
from hzlm.tools.annotation.readings import READING_INDEX
from hzlm.tools.annotation.rules import SAME_WORD, parse_rules


@pytest.mark.parametrize(
    ("rule", "sentence", "previous", "following", "holds"),
    [
        ("数 shu3 <可", "可数", "v", "", True),
        ("数 shu3 <可", "可以数", "v", "", False),
        ("数 shu3 >钱|着", "数着", "", "u", True),
        ("数 shu3 >钱|着", "数了钱", "", "u", False),
        ("数 shu3 -v,d", "不数", "d", "", True),
        ("数 shu3 -v,d", "不数", "n", "", False),
        ("数 shu3 +n", "数钱", "", "nz", True),
        ("数 shu3 +n", "数", "", "", False),
        ("数 shu3 <要 +n", "要数钱", "v", "n", True),
        ("数 shu3 <要 +n", "要数钱", "v", "v", False),
        ("数 shu3 -=", "倒数", SAME_WORD, "", True),
        ("数 shu3 @v", "数", "", "", True),
        ("数 shu3 @n", "数", "", "", False),
        ("数 shu3 <^", "数", "", "", True),
        ("数 shu3 <^", "一二三四五六七八九十数", "", "", False),
        ("数 shu3 <一.*", "一二三四五六七八九十数", "", "", False),
    ],
)
def test_conditions(rule: str, sentence: str, previous: str, following: str, holds: bool) -> None:
    (parsed,) = parse_rules(rule)["数"]
    assert parsed.reading == READING_INDEX["shu3"]
    assert parsed.holds(sentence, sentence.index("数"), previous, "vn", following) is holds


def test_the_rules_of_a_hanzi_keep_their_order() -> None:
    rules = parse_rules("数 shu3 >着\n着 zhao2 <睡\n数 shu4 <个")
    assert [rule.reading for rule in rules["数"]] == [READING_INDEX["shu3"], READING_INDEX["shu4"]]
    assert list(rules) == ["数", "着"]


@pytest.mark.parametrize("line", ["数 shu3", "数 shu3 着"])
def test_a_line_that_is_no_rule(line: str) -> None:
    with pytest.raises(ValueError, match="is no rule"):
        parse_rules(line)


def test_our_rules_can_be_read() -> None:
    rules = parse_rules(CONTEXTS)
    assert {"地", "得", "着", "了", "为"} <= set(rules)
    assert all(len(hanzi) == 1 for hanzi in rules)
