import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.errors import UserError
from hzlm.tools.readers.files import UNLISTED, Piece, cut_pieces, find_files, format_of, source_name
from hzlm.tools.readers.troubles import Troubles


def test_find_files(tmp_path: Path) -> None:
    wanted = ["b.txt", "a.jsonl.gz", "sub/c.txt.xz", "sub/a.json", "d.parquet", "e.htm", "x.warc.wet.gz", "y.warc.gz"]
    for name in [*wanted, "notes.md", ".hidden.txt", ".git/x.txt", "archive.gz", "d.parquet.gz", "x.warc.wat.gz"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.txt").mkdir()
    notes, first = tmp_path / "notes.md", tmp_path / "a.jsonl.gz"
    troubles = Troubles()
    assert find_files([tmp_path], troubles) == [tmp_path / name for name in sorted(wanted)]
    # Named files are taken whatever they are called, and once.
    assert find_files([notes, first, tmp_path], troubles)[:2] == [notes, first]
    assert len(find_files([notes, first, tmp_path], troubles)) == len(wanted) + 1
    assert troubles.to_json() == {}


def test_missing_inputs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt: no such file"):
        find_files([tmp_path / "none.txt"], Troubles())
    with pytest.raises(UserError, match=r"no file to read in this folder; it takes \.txt"):
        find_files([tmp_path], Troubles())
    with pytest.raises(UserError, match="no inputs"):
        find_files([], Troubles())


def test_a_folder_that_cannot_be_listed_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "shut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").touch()
    scandir = os.scandir

    def refuse(path: Any) -> Iterator[Any]:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    troubles = Troubles()
    assert find_files([tmp_path], troubles) == [tmp_path / "open" / "a.txt"]
    assert troubles.to_json() == {UNLISTED: {"count": 1, "places": [f"{tmp_path / 'shut'} (Permission denied)"]}}


@pytest.mark.parametrize(
    ("name", "source", "kind"),
    [
        ("news.txt.xz", "news", "text"),
        ("a.b.jsonl", "a.b", "json"),
        ("plain", "plain", "text"),
        ("x.tsv", "x.tsv", "text"),
        ("y.gz", "y", "text"),
        ("CC-MAIN-1.warc.wet.gz", "CC-MAIN-1", "warc"),
        ("CC-MAIN-1.warc.gz", "CC-MAIN-1", "warc"),
        ("p.parquet", "p", "parquet"),
        ("p q.html", "p q", "html"),
    ],
)
def test_names(name: str, source: str, kind: str) -> None:
    assert source_name(Path("folder") / name) == source
    assert format_of(Path("folder") / name) == kind


@given(size=st.integers(0, 500), step=st.integers(1, 600))
def test_pieces_cover_a_file_without_gaps(tmp_path_factory: pytest.TempPathFactory, size: int, step: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("cut.txt", "cut.jsonl", "whole.txt.gz", "whole.parquet"):
        path = folder / name
        path.write_bytes(bytes(size))
        pieces = cut_pieces([path], step)
        assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
        assert pieces[-1].end == size
        if name.startswith("cut"):
            assert all(piece.end - piece.start == step for piece in pieces[:-1])
            assert pieces[-1].end - pieces[-1].start <= step
        else:
            assert len(pieces) == 1


def test_a_file_that_is_gone_is_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "gone.txt"
    assert cut_pieces([path], 10) == [Piece(path, 0, 0)]
