"""Markdown that programs write, as people read it."""

from hypothesis import given
from hypothesis import strategies as st

from hzlm.evaluate.markdown import escape, format_markdown_table


@given(st.text("我a\\`*_{}[]()#+-.!|<>~$"))
def test_every_sign_of_markdown_is_escaped_once(text: str) -> None:
    escaped = escape(text)
    assert escaped.replace("\\", "") == text.replace("\\", "")
    assert len(escaped) == len(text) + sum(character not in "我a" for character in text)


def test_a_table() -> None:
    table = format_markdown_table(("name", "n"), [("a", "1"), ("b", "2")])
    assert table.splitlines() == ["| name | n |", "| --- | ---: |", "| a | 1 |", "| b | 2 |"]
