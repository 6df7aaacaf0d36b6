import json

from hypothesis import given
from hypothesis import strategies as st

from hzlm.tools.readers.troubles import Troubles

NOTES = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.text(max_size=5), st.integers(1, 9)))


def noted(notes: list[tuple[str, str, int]]) -> Troubles:
    troubles = Troubles()
    for cause, place, count in notes:
        troubles.note(cause, place, count)
    return troubles


@given(first=NOTES, second=NOTES)
def test_merging_is_noting_one_after_the_other(
    first: list[tuple[str, str, int]], second: list[tuple[str, str, int]]
) -> None:
    merged = noted(first)
    merged.merge(noted(second))
    assert merged.to_json() == noted(first + second).to_json()
    for cause, entry in merged.to_json().items():
        notes = [note for note in first + second if note[0] == cause]
        assert entry == {"count": sum(n for *_, n in notes), "places": [place for _, place, _ in notes[:5]]}


@given(NOTES)
def test_json_and_back(notes: list[tuple[str, str, int]]) -> None:
    value = noted(notes).to_json()
    assert Troubles.from_json(json.loads(json.dumps(value))).to_json() == value


def test_the_most_frequent_cause_is_first() -> None:
    assert list(noted([("a", "x", 1), ("b", "y", 3), ("c", "z", 2)]).to_json()) == ["b", "c", "a"]


def test_a_file_name_that_is_no_utf8_becomes_text() -> None:
    troubles = Troubles()
    troubles.note("a", b"\xff.txt".decode("utf-8", "surrogateescape"))
    assert troubles.places["a"] == ["\ufffd.txt"]
