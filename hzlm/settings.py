"""Settings in YAML: typed sections, validated at load, unknown keys refused with the nearest known name."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hzlm.errors import UserError
from hzlm.stored_yaml import format_yaml, parse_yaml

# parts of the longest name that an override may have, such as data.views.pinyin
DEEPEST = 3

Count = Annotated[int, Field(gt=0, lt=1 << 31)]
# No model or batch comes near the bound; what is beyond it is a slip, and would take all memory of the machine.
Size = Annotated[int, Field(gt=0, le=1 << 16)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of the settings: immutable, strict about types, without unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    shorthands: ClassVar[tuple[str, ...]] = ()
    """Keys that a file may hold besides the fields; the loader replaces them by fields."""


Settings = TypeVar("Settings", bound=Section)


def read_values(path: Path, section: type[Section]) -> dict[str, Any]:
    """What a YAML file says, not yet validated.

    Raises:
        UserError: the file is missing, no YAML, or no mapping.
    """
    try:
        values = parse_yaml(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a YAML file of settings") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected the sections {', '.join(section.model_fields)}")
    return values


def parse_override(text: str) -> tuple[str, Any]:
    """`section.key=value` -> the dotted key and the value, read as YAML. Raises `UserError` for any other form."""
    dotted, separator, value = text.partition("=")
    parts = dotted.split(".")
    if not separator or not all(parts) or len(parts) > DEEPEST:
        raise UserError(f"override {text}: expected section.key=value, for example train.steps=1000")
    try:
        dotted.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"override {text}: no UTF-8 text; convert it to UTF-8 first") from None
    return dotted, parse_yaml(value, f"override {text}")


def replace_value(values: dict[str, Any], dotted: str, value: Any, where: str) -> None:
    """Sets the value at a dotted key. Raises `UserError`, naming `where`, for a key inside what is no section."""
    *parents, key = dotted.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"{where}: {parent} is no section")
    values[key] = value


def validate(section: type[Settings], values: dict[str, Any], source: str, origins: Mapping[str, str]) -> Settings:
    """The typed settings.

    Args:
        section: what the values shall be.
        values: as read from YAML.
        source: where they come from, for messages.
        origins: dotted keys that come from elsewhere, such as overrides -> where from.

    Raises:
        UserError: a key is unknown or missing, a value has the wrong type, or two values do not go together.
    """
    try:
        return section.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(_explain(error, section, source, origins)) from None


def save_settings(settings: Section, path: Path) -> None:
    """Writes every field as YAML."""
    path.write_text(format_yaml(settings.model_dump(mode="json")), "utf-8")


def explain_unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """What to say of a name that is none of `known`."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"unknown {kind}; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")


def _explain(error: ValidationError, section: type[Section], source: str, origins: Mapping[str, str]) -> str:
    """One line for the first mistake. An unknown key goes first: it is often the reason why another is missing."""
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    dotted = ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "json_invalid":
            return f"{source}: values are nested too deeply; settings are sections of fields"
        case "missing":
            return f"{source}: {dotted} is missing; add it"
        case "value_error":
            text = str(first["ctx"]["error"])
            where = next((origin for key, origin in origins.items() if key in text), source)
            return f"{where}: {text}"
    # The mistake may lie inside what an override sets, or around it (an unknown section).
    where = source
    for key, origin in origins.items():
        if f"{dotted}.".startswith(f"{key}.") or f"{key}.".startswith(f"{dotted}."):
            where = origin
    if first["type"] == "extra_forbidden":
        return f"{where}: {dotted}: {explain_unknown('key', str(first['loc'][-1]), _keys(section, first['loc'][:-1]))}"
    expected = first["msg"].replace("Input should be", "must be").replace("an object", "a mapping")
    return f"{where}: {dotted} = {json.dumps(first['input'], ensure_ascii=False)}: {expected}"


def _keys(section: type[Section], place: Iterable[int | str]) -> list[str]:
    """The keys that the section at a place knows; the empty place is the whole."""
    found: Any = section
    for name in place:
        if get_origin(found) is dict:
            found = get_args(found)[1]
        elif _is_section(found) and str(name) in found.model_fields:
            found = found.model_fields[str(name)].annotation
        else:
            return []
    return [*found.model_fields, *found.shorthands] if _is_section(found) else []


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
