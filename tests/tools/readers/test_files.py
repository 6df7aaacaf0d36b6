import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hzlm.errors import UserError
from hzlm.tools.readers.files import (
    NO_FILE,
    REPEATED,
    UNKNOWN_FORMAT,
    UNLISTED,
    Piece,
    cut_pieces,
    find_files,
    format_of,
    is_compressed,
    source_name,
)
from hzlm.tools.readers.troubles import Troubles


def test_find_files(tmp_path: Path) -> None:
    wanted = ["b.txt", "a.jsonl.gz", "sub/c.txt.xz", "sub/a.json", "d.parquet", "e.htm", "x.warc.wet.gz", "y.warc.gz"]
    wanted += ["upper.TXT", "sub/Upper.Json.GZ"]
    unknown = ["archive.gz", "d.parquet.gz", "data.csv", "notes.md", "random.zst", "x.warc.wat.gz"]
    for name in [*wanted, *unknown, ".hidden.txt", ".git/x.txt"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "folder.txt").mkdir()
    notes, first = tmp_path / "notes.md", tmp_path / "a.jsonl.gz"
    troubles = Troubles()
    assert find_files([tmp_path], troubles) == [tmp_path / name for name in sorted(wanted)]
    places = [str(tmp_path / name) for name in unknown]
    assert troubles.to_json() == {UNKNOWN_FORMAT: {"count": len(unknown), "places": places[:5]}}
    # Named files are taken whatever they are called, and once.
    troubles = Troubles()
    assert find_files([notes, first, tmp_path], troubles)[:2] == [notes, first]
    assert len(find_files([notes, first, tmp_path, tmp_path, notes], troubles)) == len(wanted) + 1
    assert troubles.counts == {UNKNOWN_FORMAT: 2 * (len(unknown) - 1)}


def test_missing_inputs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt: no such file"):
        find_files([tmp_path / "none.txt"], Troubles())
    with pytest.raises(UserError, match=r"no file to read in this folder; it takes \.txt"):
        find_files([tmp_path], Troubles())
    with pytest.raises(UserError, match="no inputs"):
        find_files([], Troubles())
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    with pytest.raises(UserError, match=r"loop\.txt: cannot be read: Too many levels of symbolic links; name"):
        find_files([tmp_path / "loop.txt"], Troubles())


def test_links_that_lead_nowhere_are_left_to_reading(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    for name, target in (("dangling.txt", "gone"), ("folder", "gone too"), ("loop.txt", "loop.txt")):
        (tmp_path / name).symlink_to(target)
    troubles = Troubles()
    found = find_files([tmp_path], troubles)
    assert [path.name for path in found] == ["a.txt", "dangling.txt", "folder", "loop.txt"]
    assert not troubles.counts


def test_what_is_neither_file_nor_folder(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"pipe\.txt: neither file nor folder; "):
        find_files([pipe], Troubles())
    with pytest.raises(UserError, match="no file to read in this folder"):
        find_files([tmp_path], Troubles())
    (tmp_path / "a.txt").touch()
    (tmp_path / "link.txt").symlink_to(pipe)
    troubles = Troubles()
    assert find_files([tmp_path], troubles) == [tmp_path / "a.txt"]
    assert troubles.to_json() == {NO_FILE: {"count": 1, "places": [str(tmp_path / "link.txt")]}}


def test_a_file_is_taken_once_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").touch()
    (tmp_path / "in" / "blob").touch()
    (tmp_path / "in" / "z.txt").symlink_to("blob")
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    names = [Path("in/../in/a.txt"), Path("in/a.txt"), tmp_path / "in", Path("link/a.txt"), Path("link")]
    troubles = Troubles()
    assert find_files(names, troubles) == [names[0], tmp_path / "in" / "z.txt"]
    assert find_files(names[::-1], troubles) == [Path("link/a.txt"), Path("link/z.txt")]
    assert not troubles.counts


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    for name in ("in/b/b.txt", "elsewhere/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    top = tmp_path / "in"
    for name, target in (("a", "b"), ("b/up", ".."), ("b/self", "."), ("c", "../elsewhere")):
        (top / name).symlink_to(target)
    troubles = Troubles()
    assert find_files([top], troubles) == [top / "b" / "b.txt", top / "c" / "c.txt"]
    places = [str(top / name) for name in ("a", "b/self", "b/up")]
    assert troubles.to_json() == {REPEATED: {"count": 3, "places": places}}


def test_the_output_in_an_input_folder_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "data/report.json", "data.work/read/plan.json", "data.work/x.csv", "data.works/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("data.work/read")
    (tmp_path / "link.json").symlink_to("data/report.json")
    monkeypatch.chdir(tmp_path)
    left_out = [tmp_path / "data", Path("data.work"), Path("missing")]
    troubles = Troubles()
    assert find_files([Path()], troubles, left_out) == [Path("a.txt"), Path("data.works/b.txt")]
    assert find_files([Path()], troubles, [*left_out, Path("data.works/b.txt")]) == [Path("a.txt")]
    assert not troubles.counts
    for named in ("data.work", "data.work/read", "link.json"):
        with pytest.raises(UserError, match=f"{named}: this is a part of the output; "):
            find_files([Path("a.txt"), Path(named)], troubles, left_out)


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
        ("Upper.TXT", "Upper", "text"),
        ("U.JsonL.XZ", "U", "json"),
        ("CC-MAIN-1.WARC.WET.GZ", "CC-MAIN-1", "warc"),
    ],
)
def test_names(name: str, source: str, kind: str) -> None:
    assert source_name(Path("folder") / name) == source
    assert format_of(Path("folder") / name) == kind
    assert is_compressed(Path(name)) == any(name.lower().endswith(ending) for ending in (".gz", ".xz", ".zst"))


@given(size=st.integers(0, 500), step=st.integers(1, 600))
def test_pieces_cover_a_file_without_gaps(tmp_path_factory: pytest.TempPathFactory, size: int, step: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("cut.txt", "cut.jsonl", "cut-upper.TXT", "whole.txt.gz", "whole.TXT.GZ", "whole.parquet"):
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
