"""The settings of a preparation, and what docs/preparing.md says of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hzlm.errors import UserError
from hzlm.settings import Section, save_settings
from hzlm.tools.stages.config import PrepareConfig, load_prepare_config

DOCS = Path(__file__).parents[3] / "docs" / "preparing.md"


def documented(section: type[Section]) -> Iterator[str]:
    """A line for each setting: its name, its default as in YAML, what it does."""
    for name, field in section.model_fields.items():
        default = field.get_default(call_default_factory=True)
        text = json.dumps(default, ensure_ascii=False) if not isinstance(default, str) else default
        yield f"- `{name}` ({text}): {' '.join((field.description or '').split())}"


def test_the_docs_say_what_every_setting_does() -> None:
    expected = []
    for name, field in PrepareConfig.model_fields.items():
        section = field.annotation
        assert section is not None
        assert issubclass(section, Section)
        summary = (section.__doc__ or "").strip().splitlines()[0]
        expected += ["", f"**{name}**: {summary}", "", *documented(section)]
    assert "\n".join(expected) in DOCS.read_text("utf-8")


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    overrides = ["decontaminate.files=[a.tsv, b.tsv]", "vocabulary.size=5000", "ngram.order=3", "split.by=document"]
    config = load_prepare_config(None, overrides)
    save_settings(config, tmp_path / "prepare.yaml")
    assert load_prepare_config(tmp_path / "prepare.yaml") == config
    assert load_prepare_config(tmp_path / "prepare.yaml", ["ngram.order=null"]).ngram.order is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sentence.unit=clause", "sentence: unknown key; did you mean sentences?"),
        ("ngram=3", "ngram"),
        ("duplicates.similarity=2", "duplicates.similarity"),
        ("vocabulary.size=many", "vocabulary.size"),
    ],
)
def test_mistakes_name_the_override(override: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^override {override}: .*") as caught:
        load_prepare_config(None, [override])
    assert message in str(caught.value)
