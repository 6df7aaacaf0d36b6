"""Damage that disks, transfers and people do to files, as hypothesis strategies, and what a reader must make of it."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

from hzlm.errors import UserError

T = TypeVar("T")

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(
        [0, -1, 1, 2**31, 2**60, 10**30, -(10**30), 1e308, float("inf"), float("nan"), "", "\x00", "\ud800"]
    )
    | st.integers()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
"""Any value of JSON, those that programs do not expect above all."""


def truncated(content: bytes) -> st.SearchStrategy[bytes]:
    """The content without its end: nothing, or all but the last byte, or what lies between."""
    return st.integers(0, len(content) - 1).map(lambda size: content[:size])


@st.composite
def flipped(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with one to four bits turned over, each another one."""
    changed = bytearray(content)
    for place in draw(st.sets(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=4)):
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@st.composite
def overwritten(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with random bytes written over a part of it, or into it."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 8)))
    return content[:start] + draw(st.binary(max_size=8)) + content[end:]


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Other bytes than the content: cut off, with flipped or overwritten parts, or random ones altogether."""
    nested = st.sampled_from([b"[", b'{"a":', b"[[1],"]).map(lambda opening: opening * 20_000)
    kinds = truncated(content) | flipped(content) | overwritten(content) | st.binary(max_size=64) | nested
    return kinds.filter(lambda found: found != content)


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """The JSON value with some part of it, or all of it, replaced or taken away."""
    changed = {"root": copy.deepcopy(value)}
    parent, key = draw(st.sampled_from(list(_places(changed))))
    if parent is changed or draw(st.booleans()) or not isinstance(parent, dict):
        parent[key] = draw(JSON_VALUES)
    else:
        del parent[key]
    return changed["root"]


def altered_json(value: Any) -> st.SearchStrategy[bytes]:
    """As `altered`, written as JSON."""
    return altered(value).map(lambda changed: json.dumps(changed).encode())


def answer_of(read: Callable[[], T], *named: Path | str) -> T | None:
    """What a reader gives, or None where it refuses as it should: in one line that has one of the names in it."""
    try:
        return read()
    except UserError as error:
        text = str(error)
    assert len(text.splitlines()) == 1, text
    assert any(str(name) in text for name in named), text
    return None


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key or index) of everything inside a JSON value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from _places(inner)
