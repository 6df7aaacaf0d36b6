"""docs/guide.md and docs/guide.zh.md: their commands are run, and what they name is there."""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

import pytest
from guides import DOCS, GUIDES, ROOT, Block, read_blocks, read_prose, write_corpus

from hzlm import cli
from hzlm.config import RunConfig
from hzlm.settings import Section
from hzlm.tools.stages.config import PrepareConfig

SHAPE = "hidden_size: 16, heads: 2, feed_forward_size: 32, encoder_layers: 1, decoder_layers: 1, max_length: 512"


def make_small(settings: str) -> str:
    """The same settings with a tiny model, a thousandth of the steps, 2 rows, and dev and test splits of a tenth."""
    settings = settings.replace("size: small", SHAPE)
    settings = re.sub(r"(steps|save_every): (\d+)000\b", r"\1: \2", settings)
    settings = re.sub(r"micro_batch_rows: \d+", "micro_batch_rows: 2", settings)
    return re.sub(r"\b(dev|test): 0\.01", r"\1: 0.1", settings)


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command of the shell prints; `< FILE` and `> FILE` are all of the shell that is understood."""
    program, *words = shlex.split(line)
    assert program == "hzlm"
    files = {word: words[place + 1] for place, word in enumerate(words) if word in ("<", ">")}
    arguments = [word for place, word in enumerate(words) if word not in files and words[place - 1] not in files]
    given = Path(files["<"]).read_bytes() if "<" in files else b""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = cli.main(arguments)
    assert status == 0, line
    if ">" in files:
        Path(files[">"]).write_text(printed.getvalue(), "utf-8")
    return printed.getvalue()


@pytest.mark.slow
def test_every_command_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path)
    monkeypatch.chdir(tmp_path)
    printed: dict[str, str] = {}
    for block in read_blocks("guide.md"):
        match block.language:
            case "yaml":
                assert block.file is not None
                Path(block.file).write_text(make_small(block.text), "utf-8")
            case "sh":
                for line in block.text.splitlines():
                    printed[line] = run_command(line, monkeypatch)
            case _:
                exec(compile(block.text, "guide.md", "exec"), {})
    assert len(printed) >= 20
    assert len(Path("hanzi.txt").read_text("utf-8").splitlines()) == 3
    assert [len(line) for line in Path("corrected.txt").read_text("utf-8").splitlines()] == [6, 0, 5]
    assert len(printed['hzlm convert runs/both "wo ai bei jing"']) == len("我爱北京\n")
    for folder in ("runs/pinyin/test", "runs/corrector/spelling"):
        assert {"evaluation.json", "evaluation.md"} <= {path.name for path in Path(folder).iterdir()}
    fused = printed["hzlm evaluate runs/pinyin runs/data/test.tsv"]
    assert all(system in fused for system in ("n-gram", "fused", "most frequent"))
    assert Path("runs/corrector/correction.json").is_file()


def test_both_guides_have_the_same_blocks() -> None:
    """But for what stands behind # in them."""
    english, chinese = ([without_comments(block) for block in read_blocks(guide)] for guide in GUIDES)
    assert {block.language for block in english} == {"yaml", "sh", "python"}
    assert english == chinese


def without_comments(block: Block) -> Block:
    lines = block.text.splitlines(keepends=True)
    return Block(block.language, lines[0] + "".join(re.sub(r" +#.*", "", line) for line in lines[1:]))


def test_both_guides_have_the_same_sections_tables_and_links() -> None:
    english, chinese = (read_prose(guide).replace("README.zh.md", "README.md") for guide in GUIDES)
    for found in (r"^#+ (?:\d+\. )?", r"^\|", r"\]\(((?!guide)[^)]+)\)", r"`([a-z]+\.[a-z_]+)`"):
        assert sorted(re.findall(found, english, re.MULTILINE)) == sorted(re.findall(found, chinese, re.MULTILINE))


@pytest.mark.parametrize("guide", GUIDES)
def test_what_a_guide_links_to_exists(guide: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", read_prose(guide))
    assert len(links) >= 10
    assert [link for link in links if not (DOCS / link).exists()] == []


@pytest.mark.parametrize("guide", GUIDES)
def test_the_fields_that_a_guide_names_exist(guide: str) -> None:
    known = fields_of(RunConfig) | fields_of(PrepareConfig)
    named = re.findall(r"`([a-z]+\.[a-z_]+)(?:`|[:=] ?[^`]*`)", read_prose(guide))
    files = {block.file for block in read_blocks(guide)}
    assert len(named) >= 20
    assert [name for name in named if name not in known and name not in files] == []


def fields_of(config: type[Section]) -> set[str]:
    """Every section.field."""
    return {
        f"{section}.{name}"
        for section, field in config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        for name in field.annotation.model_fields
    }


@pytest.mark.parametrize("guide", GUIDES)
def test_measured_figures_stand_in_the_readme(guide: str) -> None:
    figures = re.findall(r"\d+\.\d %", read_prose(guide))
    assert len(figures) == 6
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [figure for figure in figures if figure not in readme] == []
