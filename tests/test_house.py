"""Rules of the house that a program can check."""

import re
import tomllib
from pathlib import Path

import hzlm
from hzlm.cli import EXTRAS

ROOT = Path(__file__).parents[1]
FOLDERS = ("hzlm", "kernels", "launch", "tools", "configs", "tests", "docs", ".ci")
SUFFIXES = {".py", ".md", ".toml", ".yaml", ".txt", ""}
FILES = [
    path
    for path in (*ROOT.iterdir(), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")))
    if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def named(requirements: list[str]) -> set[str]:
    """The distributions of a list of requirements, in lower case."""
    return {re.split("[^A-Za-z0-9_.-]", requirement)[0].lower() for requirement in requirements}


def test_every_file_of_code_is_under_300_lines() -> None:
    lengths = {str(path): len(path.read_text("utf-8").splitlines()) for path in FILES if path.suffix == ".py"}
    assert lengths
    assert {path: length for path, length in lengths.items() if length >= 300} == {}


def test_no_file_names_a_place_of_one_machine() -> None:
    place = re.compile(r"(?<![\w.*])/(?:work|root|farm|home|opt|tmp)/[a-z]")
    assert [str(path) for path in FILES if place.search(path.read_text("utf-8")) and path != Path(__file__)] == []


def test_the_version_stands_in_two_places_alike() -> None:
    assert PROJECT["version"] == hzlm.__version__


def test_the_command_knows_the_extras() -> None:
    extras = PROJECT["optional-dependencies"]
    needed_to_run = {name for name in named(extras["train"]) | named(extras["data"]) if name != "setuptools"}
    assert EXTRAS.keys() == needed_to_run
    for module, extra in EXTRAS.items():
        assert module in named(extras[extra])


def test_every_dependency_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {line.partition("==")[0].lower() for line in pins if "==" in line}
    wanted = named(PROJECT["dependencies"])
    for requirements in PROJECT["optional-dependencies"].values():
        wanted |= named(requirements)
    assert wanted - pinned == set()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins if not line.startswith("#"))


def test_decoding_imports_neither_training_nor_data_nor_tools() -> None:
    for folder in ("decode", "model"):
        for path in (ROOT / "hzlm" / folder).glob("*.py"):
            assert not re.search(r"^\s*(?:import|from) hzlm\.(?:train|data|tools)", path.read_text("utf-8"), re.M), path
