import io
from collections.abc import Callable
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.tools.readers import borders
from hzlm.tools.readers.borders import find_document_border, find_line_border, find_record_border

CONTENT = st.lists(st.sampled_from(["一", "二。", "\n", "\n\n", " ", "\r", "\u3000", "a"]), max_size=60).map(
    lambda parts: "".join(parts).encode()
)
FIND = [find_document_border, find_line_border, find_record_border]


@pytest.mark.parametrize("find", FIND)
@given(content=CONTENT)
def test_borders_rise_and_stay_inside(find: Callable[[BinaryIO, int], int], content: bytes) -> None:
    file = io.BytesIO(content)
    found = [find(file, position) for position in range(len(content) + 1)]
    assert found == sorted(found)
    assert all(position <= border <= len(content) for position, border in enumerate(found))
    assert not found or (found[0] == 0 and found[-1] == len(content))


@given(content=CONTENT)
def test_documents_part_behind_blank_lines(content: bytes) -> None:
    file = io.BytesIO(content)
    for position in range(1, len(content) + 1):
        border = find_document_border(file, position)
        if border < len(content):
            before = content[:border].decode()
            assert before.endswith("\n")
            assert not before[:-1].rpartition("\n")[2].strip()
            # No blank line that ends between them is passed over.
            lines = content[position - 1 : border].decode("utf-8", "replace").split("\n")[1:-2]
            assert all(line.strip() for line in lines)


@given(content=CONTENT)
def test_lines_part_at_the_first_line_that_starts_there(content: bytes) -> None:
    starts = [0, *(place + 1 for place, byte in enumerate(content) if byte == 10), len(content)]
    for position in range(len(content) + 1):
        expected = min(start for start in starts if start >= position)
        assert find_line_border(io.BytesIO(content), position) == expected
        assert find_record_border(io.BytesIO(content), position) == expected


@pytest.mark.parametrize("find", FIND)
@given(content=CONTENT, longest=st.integers(8, 20))
def test_what_has_no_borders_is_cut_between_characters(
    find: Callable[[BinaryIO, int], int], content: bytes, longest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(borders, "_DOCUMENT_BYTES", longest)
        patch.setattr(borders, "LONGEST_RECORD", longest)
        patch.setattr(borders, "_WINDOW_BYTES", 1)
        file = io.BytesIO(content)
        found = [find(file, position) for position in range(len(content) + 1)]
    assert found == sorted(found)
    for position, border in enumerate(found):
        assert position <= border <= position + 2 * longest + 3 or border == len(content)
        content[:border].decode()


def test_a_long_text_without_blank_lines_is_cut_at_a_line_end() -> None:
    line = "没有空行的文字。\n".encode()
    content = line * (borders._DOCUMENT_BYTES // len(line) + 9)
    border = find_document_border(io.BytesIO(content), 100)
    assert border == -(-100 // len(line)) * len(line)
