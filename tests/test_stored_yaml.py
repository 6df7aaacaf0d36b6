"""YAML as configs use it: what comes back, and what is refused."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import answer_of
from hzlm.errors import UserError
from hzlm.stored_yaml import format_yaml, parse_yaml

# texts that one YAML or another takes for something else
ODD = ["1e5", "017", "1:30", "2001-01-01", "null", "~", "yes", "0x1F", "<<", "=", ".inf", "- a", "a: b", "#", "!!x"]
ODD += ["", "\x85", "a\u2028b"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")) | st.sampled_from(ODD)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
PIECES = [
    *"{}[]:,-?!&*#|>'\"%@`~= \n\t",
    "\n  ",
    ": ",
    "- ",
    "<<: ",
    "*a",
    "&a ",
    "!!int ",
    "!!binary ",
    "---\n",
    "...\n",
]
PIECES += ["\\U00110000", '"\\ud800"', '"\\0"', "9" * 5000, "[" * 300, "{a: " * 300, "1e999", "steps: ", *ODD]
ANY_TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=20).map("".join)


@given(VALUES)
def test_what_is_written_reads_back_equal(value: object) -> None:
    text = format_yaml(value)
    found = parse_yaml(text, "here")
    assert found == value
    assert json.dumps(found) == json.dumps(value), "also of the same types"


def test_a_value_that_stands_in_two_places_is_written_twice() -> None:
    views = {"pinyin": 1}
    assert parse_yaml(format_yaml([views, views]), "here") == [views, views]


@given(st.lists(TEXTS))
def test_other_readers_see_the_same_texts(texts: list[str]) -> None:
    assert yaml.safe_load(format_yaml(texts)) == texts


@settings(max_examples=150)
@given(ANY_TEXT)
def test_any_text_is_a_value_of_json_or_refused(text: str) -> None:
    found = answer_of(lambda: {"value": parse_yaml(text, "here")}, "here")
    if found is not None:
        json.dumps(found).encode()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {steps: 1, steps: 2}", "here, line 1, column 15: no valid YAML (the key steps comes twice; remove one)"),
        ("a: 1\nb: 2\na: 3", "here, line 3, column 1: no valid YAML (the key a comes twice; remove one)"),
        ("1: a", "here, line 1, column 1: no valid YAML (the key 1 is no text; put it in quotes)"),
        ("? [a]\n: b", "the key ['a'] is no text"),
        ("- &a b", "line 1, column 3: no valid YAML (anchors (&), aliases (*) and tags (!) are not for configs"),
        ("- *a", "anchors (&), aliases (*) and tags (!) are not for configs"),
        ("- !!int 3", "anchors (&), aliases (*) and tags (!) are not for configs"),
        ("- !!python/name:os.system", "anchors (&), aliases (*) and tags (!) are not for configs"),
        ('"a\\0"', "a text holds NUL or half a surrogate pair"),
        ('"\\ud800"', "a text holds NUL or half a surrogate pair"),
        ('"\\U00110000"', "here: no valid YAML (chr() arg"),
        ("9" * 5000, "here: no valid YAML (Exceeds the limit"),
        ("[" * 400 + "]" * 400, "here: no valid YAML (nested too deeply)"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "here")
    assert message in str(caught.value)


def test_texts_that_are_numbers_elsewhere() -> None:
    text = "[2001-01-01, 1:30, 0x1F, yes, 1_000, <<, 1e3, .5, -1, +0, 1.]"
    expected = ["2001-01-01", "1:30", "0x1F", "yes", "1_000", "<<", 1000.0, 0.5, -1, 0, 1.0]
    assert parse_yaml(text, "here") == expected
