"""Rules of the house that a program can check."""

import ast
import graphlib
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

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
    needed_to_run = named(extras["train"]) | named(extras["data"]) | named(extras["bench"])
    distributions = {module: {name.lower() for name in names} for module, names in packages_distributions().items()}
    assert set().union(*(distributions[module] for module in EXTRAS)) == needed_to_run - {"setuptools"}
    for module, extra in EXTRAS.items():
        assert distributions[module] <= named(extras[extra])


def test_every_dependency_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {line.partition("==")[0].lower() for line in pins if "==" in line}
    wanted = named(PROJECT["dependencies"])
    for requirements in PROJECT["optional-dependencies"].values():
        wanted |= named(requirements)
    assert wanted - pinned == set()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins if not line.startswith("#"))


# each part of the library -> the parts below it, which alone it may import
BELOW: dict[str, set[str]] = {
    "foundation": set(),
    "kernels": {"foundation"},
    "parallel": {"foundation", "kernels"},
    "model": {"foundation", "kernels", "parallel"},
    "data": {"foundation", "kernels", "parallel"},
    "launch": {"foundation"},
    "train": {"foundation", "kernels", "parallel", "model", "data", "launch"},
    "decode": {"foundation", "kernels", "parallel", "model"},
    "evaluate": {"foundation", "kernels", "parallel", "model", "data", "decode"},
}
# what may import all of them
ABOVE = {"tools", "commands", "cli"}
# the folders that are parts of the package under another path, as setup.py has it
SOURCES = {f"hzlm.{name}": ROOT / name for name in ("kernels", "launch", "tools")} | {"hzlm": ROOT / "hzlm"}


def find_modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


MODULES = find_modules()


def imports_of(module: str, everywhere: bool) -> set[str]:
    """The modules of the package that a module imports.

    Args:
        module: its dotted name.
        everywhere: also inside functions, and for type checkers alone; else only what runs when it is imported.
    """
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(MODULES[module].read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
        elif everywhere or not (is_function(node) or is_for_type_checkers(node)):
            waiting += ast.iter_child_nodes(node)
    return found & MODULES.keys()


def is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def test_no_circle_of_imports() -> None:
    sorter = graphlib.TopologicalSorter({module: imports_of(module, everywhere=False) for module in MODULES})
    sorter.prepare()  # raises CycleError, which names the circle


def part_of(module: str) -> str:
    """The part of the library that a module lies in; modules beside the parts are what all of them rest on."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in BELOW.keys() | ABOVE else "foundation"


def test_dependencies_point_one_way() -> None:
    assert {part_of(module) for module in MODULES} >= BELOW.keys()
    wrong = [
        f"{module} imports {imported}"
        for module in MODULES
        if part_of(module) in BELOW
        for imported in sorted(imports_of(module, everywhere=True))
        if part_of(imported) not in BELOW[part_of(module)] | {part_of(module)}
    ]
    assert wrong == []


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_what_the_readme_links_to_exists(readme: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / readme).read_text("utf-8"))
    assert sum(link.endswith(".py") for link in links) >= 8, "the reading order"
    assert [link for link in links if not (ROOT / link).exists()] == []
