import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hzlm.errors import UserError
from hzlm.pinyin import is_hanzi
from hzlm.tools import decontaminate
from hzlm.tools.decontaminate import CLEAN, DecontaminateConfig

SENTENCE = st.text("中国人𠀀a1，。 ", max_size=10)
DOCUMENTS = st.lists(st.lists(SENTENCE, max_size=5), max_size=5)
FILES = st.lists(st.lists(st.text("中国人𠀀，b", max_size=9), max_size=4), max_size=3)


def only_hanzi(text: str) -> str:
    return "".join(filter(is_hanzi, text))


def stands_in(sentences: Sequence[str], texts: Sequence[str], ngram: int, shortest: int) -> list[bool]:
    """Which sentences of one document stand in one of these texts, by searching for strings."""
    hanzi = "".join(map(only_hanzi, sentences))
    owners: list[int] = []
    borders = {0}
    for number, sentence in enumerate(sentences):
        for character in sentence:
            if is_hanzi(character):
                owners.append(number)
            elif not character.isalnum():
                borders.add(len(owners))
        borders.add(len(owners))
    found = [False] * len(sentences)
    for text in map(only_hanzi, texts):
        whole = len(text) < ngram
        if whole and len(text) < shortest:
            continue
        for piece in [text] if whole else [text[at : at + ngram] for at in range(len(text) - ngram + 1)]:
            at = hanzi.find(piece)
            while at >= 0:
                if not whole or {at, at + len(piece)} <= borders:
                    for owner in owners[at : at + len(piece)]:
                        found[owner] = True
                at = hanzi.find(piece, at + 1)
    return found


@given(FILES, DOCUMENTS, st.integers(2, 6), st.integers(1, 7), st.integers(1, 30))
@example([["中国人中国"]], [["中国", "1。", "人，中国", "人"], ["中国人"]], 5, 1, 30)
@example([["中国，人"]], [["我，中国", "人。", "中国人民"]], 6, 3, 30)
def test_sentences_are_found_as_by_searching_for_strings(
    files: list[list[str]], documents: list[list[str]], ngram: int, shortest: int, block: int
) -> None:
    test_set = decontaminate.TestSet(files, ngram, shortest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decontaminate, "_BLOCK_CHARACTERS", block)
        found = test_set.find_files(documents).tolist()
    expected = []
    for document in documents:
        marks = [stands_in(document, texts, ngram, shortest) for texts in files]
        for number in range(len(document)):
            expected.append(next((file for file, mark in enumerate(marks) if mark[number]), CLEAN))
    assert found == expected


def test_equal_hashes_alone_are_no_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decontaminate, "hash_windows", lambda codes, windows: 0 * windows.starts.astype("u8"))
    test_set = decontaminate.TestSet([["中国人民"]], 4, 1)
    assert test_set.find_files([["国人民中"], ["中国人"], ["中国人民"]]).tolist() == [CLEAN, CLEAN, 0]


def test_the_default_leaves_alone_what_everybody_says(tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    path.write_text("在这种情况下\n他仅凭腰部的力量\n绿是阳春烟景大块文章的底色四月\n", "utf-8")
    test_set = decontaminate.TestSet.load(DecontaminateConfig(files=(path,)))
    sentences = [
        "在这种情况下，",
        "他仅凭腰部的力量。",
        "他仅凭腰部的力量游泳。",
        "说：“阳春烟景大块，文章的底色四月",
        "烟景大块文章的底色四月",
    ]
    assert test_set.find_files([[sentence] for sentence in sentences]).tolist() == [CLEAN, 0, CLEAN, 0, CLEAN]


def test_all_columns_and_fields_with_hanzi_are_read(tmp_path: Path) -> None:
    table = tmp_path / "a.tsv"
    table.write_bytes("\ufeff1\tzhong1 guo2\t中国。\t国中\r\n\n2\t\t人民\n".encode())
    lines = tmp_path / "b.jsonl"
    lines.write_text(json.dumps({"id": "x", "文": ["中国", {"b": "人", "c": 3}]}) + "\n\n" + json.dumps("民"), "utf-8")
    assert [text.strip() for text in decontaminate.read_test_file(table)] == ["中国。", "国中", "人民"]
    assert decontaminate.read_test_file(lines) == ["中国", "人", "民"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"1\tabc\n", "no hanzi"),
        ("a.txt", b"ab\xff\n", "byte 2 is no UTF-8"),
        ("a.jsonl", b'"\xe4\xb8\xad"\n{"a": \n', r"line 2: no JSON \(Expecting value, column 7\)"),
        ("none.txt", None, "cannot read"),
    ],
)
def test_a_test_file_of_no_use_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*{message}.*; repair it"):
        decontaminate.TestSet.load(DecontaminateConfig(files=(path,)))


def test_the_training_text_is_found_in_itself() -> None:
    document = [f"第{number}句话说的是{chr(0x4E00 + number) * 3}的事情。" for number in range(300)]
    test_set = decontaminate.TestSet(
        [["无关的句子在这里没有用处吧"], [*document[10:12], document[20] + document[21]]], 13, 8
    )
    found = test_set.find_files([document])
    # Twelve hanzi each: alone they stand between punctuation, together they have more than thirteen in a row.
    assert [number for number, file in enumerate(found) if file == 1] == [10, 11, 20, 21]
    assert set(found.tolist()) == {CLEAN, 1}
