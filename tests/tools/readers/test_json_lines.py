import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import altered_json, damaged
from hzlm.tools.readers import json_lines
from hzlm.tools.readers.json_lines import BROKEN_JSON, LONG_RECORD, NO_TEXT, read_json_lines
from hzlm.tools.readers.lines import BROKEN_ENCODING, NULL_BYTES
from hzlm.tools.readers.troubles import Troubles


def read(content: bytes, field: str = "text") -> tuple[list[str], Troubles]:
    troubles = Troubles()
    blocks = (content[start : start + 7] for start in range(0, len(content), 7))
    return list(read_json_lines(blocks, field, lambda number: f"line {number}", troubles)), troubles


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufffd"), min_size=1)),
    ascii_only=st.booleans(),
)
def test_records(texts: list[str], ascii_only: bool) -> None:
    lines = [json.dumps({"id": 1, "content": text}, ensure_ascii=ascii_only) for text in texts]
    found, troubles = read("\n\n".join(lines).encode(), "content")
    assert found == [text for text in texts if not text.isspace()]
    assert troubles.counts[NO_TEXT] == troubles.counts.total() == len(texts) - len(found)


@pytest.mark.parametrize(
    ("line", "cause", "reason"),
    [
        (b'{"text": ', BROKEN_JSON, "Expecting value, column 10"),
        (b"[" * 100_000, BROKEN_JSON, "nested too deeply"),
        (b"9" * 5000, BROKEN_JSON, "Exceeds the limit"),
        (b'["a"]', NO_TEXT, ""),
        (b'{"content": "a"}', NO_TEXT, ""),
        (b'{"text": 3}', NO_TEXT, ""),
        (b'{"text": null}', NO_TEXT, ""),
        (b'{"text": " "}', NO_TEXT, ""),
    ],
)
def test_what_is_no_record_is_noted_and_the_rest_goes_on(line: bytes, cause: str, reason: str) -> None:
    found, troubles = read(b'{"text": "a"}\n' + line + b'\n{"text": "b"}')
    assert found == ["a", "b"]
    assert troubles.counts == {cause: 1}
    assert troubles.places[cause][0].startswith("line 2")
    assert reason in troubles.places[cause][0]


def test_broken_characters_are_replaced_and_noted() -> None:
    found, troubles = read(
        b'{"text": "\\ud800a"}\n{"text": "b\\u0000"}\n{"text": "\xff\x00c"}\n{"text": "\\ud842\\udfb7"}'
    )
    assert found == ["\ufffda", "b", "\ufffdc", "𠮷"]
    assert troubles.places == {BROKEN_ENCODING: ["line 1", "line 3"], NULL_BYTES: ["line 2", "line 3"]}


def test_a_line_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "LONGEST_RECORD", 100)
    found, troubles = read(b'{"text": "a"}\n{"text": "' + b"b" * 1000 + b'"}\n{"text": "c"}\n' + b"d" * 1000)
    assert found == ["a", "c"]
    assert troubles.to_json() == {LONG_RECORD: {"count": 2, "places": ["line 2", "line 4"]}}


@settings(max_examples=150)
@given(st.data())
def test_damaged_records_are_noted_or_read(data: st.DataObject) -> None:
    content = '{"text": "第一行，\\n第二行"}\n{"id": 3, "text": "末行"}\n'.encode()
    lines = data.draw(damaged(content) | altered_json({"text": "行", "more": [1]}))
    found, troubles = read(lines)
    assert all("\x00" not in text for text in found)
    "".join(found).encode()
    filled = sum(bool(line) and not line.isspace() for line in lines.split(b"\n"))
    assert len(found) + troubles.counts[BROKEN_JSON] + troubles.counts[NO_TEXT] == filled
