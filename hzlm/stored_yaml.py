"""YAML as configs use it: mappings, lists, texts, numbers, true, false and null.

Left out is what only surprises: aliases (a few lines of them make gigabytes), tags, merge keys, dates, numbers of base
8 and 60, yes and no, keys that are no text, and a key that comes twice.
"""

import re
from typing import Any

import yaml

from hzlm.errors import UserError

_FLOAT = re.compile(r"[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$")
_RARE_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Args:
        text: the YAML.
        where: its place, for messages: a file, or an argument.

    Raises:
        UserError: it is none; the message gives the line and column.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{where}{place}: no valid YAML ({error.problem})") from None
    except RecursionError:
        raise UserError(f"{where}: no valid YAML (nested too deeply)") from None
    # Plain ones come from numbers and escapes (\U00110000) that Python cannot hold.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: no valid YAML ({' '.join(str(error).split())})") from None


def format_yaml(value: Any) -> str:
    """A value as YAML, in the order of its keys, which `parse_yaml` reads back equal."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Takes plain scalars for what the resolvers below say, and refuses what the module leaves out."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None or event.tag is not None:
            raise _problem("anchors (&), aliases (*) and tags (!) are not for configs; write the value itself", event)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if isinstance(node, yaml.ScalarNode) and _NO_TEXT.search(node.value):
            raise _problem("a text holds NUL or half a surrogate pair", node)
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _problem(f"the key {key} is no text; put it in quotes", key_node)
            if key in seen:
                raise _problem(f"the key {key} comes twice; remove one", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _problem(text: str, place: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark: Any = place.start_mark
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark)


class _Dumper(yaml.SafeDumper):
    """Puts every text in quotes that either `_Loader` or another reader of YAML would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML writes the rarer line ends as they are into the one kind of quotes that folds them into blanks
        style = '"' if _RARE_LINE_ENDS.search(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1
for _tag, _pattern, _first in (
    ("null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"[-+]?(?:0|[1-9]\d*)$"), list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Dumper.add_representer(str, _Dumper.represent_str)
