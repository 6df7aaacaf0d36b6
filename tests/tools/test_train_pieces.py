import pytest

from hzlm.errors import UserError
from hzlm.pieces import Pieces
from hzlm.tools.train_pieces import train_pieces

pytest.importorskip("sentencepiece")

RUNS = {"GPT": 50, "GDP": 30, "GPT4": 20, "Linux": 40, "Linus": 10, "2008": 60, "2009": 50, "é": 1, "カラオケ": 3}


def test_frequent_runs_become_pieces_and_all_else_can_be_spelt() -> None:
    pieces = train_pieces(RUNS, 60)
    assert {"GPT", "Linux"} < set(pieces.texts)
    assert len(pieces.texts) <= 60
    assert {character for run in RUNS for character in run} - set(pieces.texts) <= {"é"}, "0.05 % may be bytes"
    assert sum(len(pieces.cut(run)) * count for run, count in RUNS.items()) < sum(
        len(run) * count for run, count in RUNS.items()
    ), "pieces make texts shorter"
    assert max(pieces.scores) <= 0


def test_the_order_of_the_counts_does_not_matter() -> None:
    assert train_pieces(dict(reversed(RUNS.items())), 60) == train_pieces(RUNS, 60)


def test_rare_characters_become_bytes_unless_they_are_required() -> None:
    runs = {**RUNS, "Linux": 40_000}
    assert "é" not in train_pieces(runs, 60).texts
    assert {"é", "Ж"} <= set(train_pieces(runs, 60, "éЖ").texts)


def test_the_smallest_size_is_that_of_the_alphabet() -> None:
    alphabet = {character for run in RUNS for character in run}
    assert set(train_pieces(RUNS, len(alphabet)).texts) == alphabet
    with pytest.raises(UserError, match=f"vocabulary.pieces is 3, but .* at least {len(alphabet)}"):
        train_pieces(RUNS, 3)


def test_no_runs_no_pieces() -> None:
    assert train_pieces({}, 60) == Pieces((), ())
    assert Pieces((), ()).cut("ab") == ["a", "b"]


def test_what_is_required_is_a_piece_without_any_runs() -> None:
    assert train_pieces({}, 5, {"Z"}).texts == ("Z",)
    assert set(train_pieces({}, 3, "ABC").texts) == set("ABC")
    with pytest.raises(UserError, match=r"vocabulary\.pieces is 2, but .* have 3 different letters and digits"):
        train_pieces({}, 2, "ABC")
