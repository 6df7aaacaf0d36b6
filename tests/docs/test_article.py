"""docs/article.md: whether it speaks of all of the article, and of what is there."""

import re
from pathlib import Path

import pytest

from hzlm.config import RunConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "article.md").read_text("utf-8")

# the numbered headings of the article, in its order
NUMBERS = """
1.1 1.2 1.3
2.1 2.2 2.3 2.4
3.1 3.1.1 3.1.2 3.1.3 3.2 3.2.1 3.2.2 3.2.3 3.3 3.3.1 3.3.2 3.3.3 3.4 3.4.1 3.4.2 3.4.3
4.1 4.1.1 4.1.2 4.1.3 4.1.4 4.2 4.2.1 4.2.2 4.3 4.3.1 4.3.2 4.4 4.4.1 4.4.2
5.1 5.1.1 5.1.2 5.1.3 5.2 5.2.1 5.2.2 5.2.3 5.3 5.3.1 5.3.2 5.3.3 5.4 5.4.1 5.4.2 5.4.3
"""
SECTIONS = NUMBERS.split()


def test_every_section_has_a_row_in_the_order_of_the_article() -> None:
    rows = re.findall(r"^\| (\d[\d.]*) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [number for number, *_ in rows] == SECTIONS


def test_the_list_of_sections_is_that_of_the_article() -> None:
    articles = sorted((ROOT.parent / "shared" / "article").glob("*.txt"))
    if not articles:
        pytest.skip("the article lies in ../shared/article, which is not here")
    assert re.findall(r"^#{3,4} (\d[\d.]*)", articles[0].read_text("utf-8"), re.MULTILINE) == SECTIONS


def test_what_it_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    assert len(links) >= len(SECTIONS)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_the_functions_and_classes_that_it_names_are_in_those_files() -> None:
    named = re.findall(r"\]\((\.\./[\w/]+\.py)\): ((?:`\w+`(?:, )?)+)", PAGE)
    assert len(named) >= len(SECTIONS)
    for link, names in named:
        code = (ROOT / "docs" / link).read_text("utf-8")
        for name in re.findall(r"\w+", names):
            assert re.search(rf"^(?:def|class) {name}\b|^{name}\b.* = ", code, re.MULTILINE), f"{link} has no {name}"


def test_the_fields_that_it_names_are_those_of_the_config() -> None:
    fields = {f"{section}.{name}" for section, field in RunConfig.model_fields.items() for name in fields_of(field)}
    named = re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE)
    assert len(named) >= 10
    assert [name for name in named if name not in {*fields, "self.dropout"}] == []


def fields_of(field: object) -> list[str]:
    """The fields of a section of the config."""
    return list(getattr(getattr(field, "annotation", None), "model_fields", {}))
