"""Lines as they stand in files, and what pinyin gives for the characters of a target."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from damage import answer_of, damaged
from hzlm.data.sentence_files import Pair, Row, align, read_pairs, read_rows, take_widths
from hzlm.errors import UserError

LINES = "give lines of [id<TAB>]source<TAB>target"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "lines.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_are_read_as_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff7\t 我 \t爱\n\nwo\t我\r\n")
    assert list(read_pairs(path)) == [Pair(" 我 ", "爱", f"{path}:1"), Pair("wo", "我", f"{path}:3")]
    rows = [Row(["7", " 我 ", "爱"], f"{path}:1"), Row(["wo", "我"], f"{path}:3")]
    assert list(read_rows(path, "anything")) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("我\t我\n我爱\n", f"FILE:2: 1 column(s); {LINES}"),
        ("1\t我\t我\t我\n", f"FILE:1: 4 column(s); {LINES}"),
        ("1\t\t我\n", f"FILE:1: its source is empty; {LINES}"),
        ("我\t \n", f"FILE:1: its target is empty; {LINES}"),
        ("\n \t\n", f"FILE: no sentences in it; {LINES}"),
        ("我\t我\n".encode() + b"\xff\t\xfe\n", "FILE:2: no UTF-8 text; convert the file to UTF-8 first"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        list(read_pairs(path))
    assert str(caught.value) == message.replace("FILE", str(path))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UserError) as caught:
            list(read_pairs(path))
        assert str(caught.value) == f"{path}: cannot be read ({reason}); {LINES}"


@given(damaged("1\two3 ai4\t我爱，\n2\t我背\t我北\nwo ai\t我爱\tnews\n".encode()))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), content)
    answer_of(lambda: list(read_pairs(path)), path)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("wo3 ai", "我爱", "syl:wo3 syl:ai"),
        ("wo3 ai4", "我，爱。", "syl:wo3 lit:， syl:ai4 lit:。"),
        ("wo3 ， ai4", "我，爱。", "syl:wo3 lit:， syl:ai4 lit:。"),
        ("wo3,ai4", "我，爱!", "syl:wo3 lit:， syl:ai4 lit:!"),
        ("wo3 ！", "我!", "syl:wo3 lit:!"),
        ("wo3 .", "我。", "syl:wo3 lit:."),  # another sign, whatever it looks like
        ("wo3 ， ！", "我,？", "syl:wo3 lit:, lit:！"),
        ("wo3 ｔ xing2", "我ｔ行。", "syl:wo3 lit:ｔ syl:xing2 lit:。"),
        ("wo3 T", "我T", "syl:wo3 lit:T"),
        ("a a", "啊a", "syl:a syl:a"),  # a letter that is a syllable is one
        ("na3 r5 ren2 er2", "哪儿人儿", "syl:na3 syl:er5 syl:ren2 syl:er2"),
        ("na3 r", "哪儿？", "syl:na3 syl:er lit:？"),
        ("xi'an shì", "西安市", "syl:xi syl:an syl:shi4"),
        ("lit:wo", "我们", "lit:w lit:o"),
    ],
)
def test_pinyin_gives_a_token_for_each_character(source: str, target: str, expected: str) -> None:
    assert align(Pair(source, target, "here")) == expected.split(" ")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("wo3", "我爱。", "here: its source has 1 positions, its target 3, 2 of them hanzi (they begin 'wo3' and "
         "'我爱。'); give a syllable or sign for each, or syllables for the hanzi alone"),
        ("wo3 ,", "我爱，", "here: its source has 2 positions, its target 3, 2 of them hanzi"),
        ("wo3 ia4", "我爱", 'here, piece 2: "ia4" is no pinyin syllable; the nearest one is ai'),
        ("r5", "我", 'here, piece 1: "r5" is no pinyin syllable'),
        ("我", "我", "here, piece 1: pinyin is expected, not the hanzi 我"),
    ],
)  # fmt: skip
def test_pinyin_that_does_not_fit(source: str, target: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        align(Pair(source, target, "here"))
    assert str(caught.value).startswith(message)


@given(st.lists(st.sampled_from([("syl:wo", "我"), ("lit:，", "，"), ("lit:ｔ", "ｔ"), ("lit:!", "!")]), min_size=1))
def test_only_widths_are_taken(pairs: list[tuple[str, str]]) -> None:
    """Written in the other width, every sign comes back; what has no other width stays."""
    tokens, target = [token for token, _ in pairs], "".join(character for _, character in pairs)
    other = {"lit:，": "lit:,", "lit:ｔ": "lit:t", "lit:!": "lit:！"}
    assert take_widths([other.get(token, token) for token in tokens], target) == tokens
    assert take_widths(tokens[1:], target) == tokens[1:]
