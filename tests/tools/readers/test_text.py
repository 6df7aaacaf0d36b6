import re

from hypothesis import given
from hypothesis import strategies as st

from hzlm.tools.readers.text import LONG_DOCUMENT, LONGEST_TEXT, part_text, read_text
from hzlm.tools.readers.troubles import Troubles


def place(number: int) -> str:
    return f"line {number}"


TEXT = st.lists(st.sampled_from(["一", "二", "\n", "\n", " ", "\u3000"]), max_size=40).map("".join)


@given(TEXT)
def test_documents_end_at_blank_lines(text: str) -> None:
    found = list(read_text(iter([text.encode()]), False, place, Troubles()))
    expected = [part.strip("\n") for part in re.split(r"(?:^|\n)(?:[^\S\n]*\n)+", text)]
    assert found == ["\n".join(line for line in part.split("\n") if line.strip()) for part in expected if part.strip()]


@given(TEXT)
def test_each_line_may_be_a_document(text: str) -> None:
    found = list(read_text(iter([text.encode()]), True, place, Troubles()))
    assert found == [line for line in text.split("\n") if line.strip()]


def test_a_long_document_comes_in_parts() -> None:
    line = "一行文字，" * 20_000
    text = "\n".join([line] * 30)
    for troubles in (Troubles(), Troubles()):
        content = f"短的\n\n{text}\n\n短的".encode()
        blocks = (content[start : start + 1000] for start in range(0, len(content), 1000))
        found = list(read_text(blocks, False, place, troubles))
        assert found[0] == found[-1] == "短的"
        assert "\n".join(found[1:-1]) == text
        assert all(len(part) <= LONGEST_TEXT for part in found)
        assert len(found) == 5
        # Line 13 is the first that does not fit.
        assert troubles.to_json() == {LONG_DOCUMENT: {"count": 1, "places": ["line 13"]}}


def test_a_long_text_of_a_record_comes_in_parts() -> None:
    troubles = Troubles()
    text = "\n".join(["一" * 1000] * 999 + [""] + ["二。" * 500_000])
    found = list(part_text(text, place, 7, troubles))
    assert "".join(found).replace("\n", "") == text.replace("\n", "")
    assert all(0 < len(part) <= LONGEST_TEXT for part in found)
    assert troubles.to_json() == {LONG_DOCUMENT: {"count": 1, "places": ["line 7"]}}
    assert list(part_text("短\n\n的", place, 8, troubles)) == ["短\n\n的"]
