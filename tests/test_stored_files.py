from pathlib import Path

import pytest

from hzlm.stored_files import replacing


def write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def test_a_file_appears_or_is_replaced(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path / "x", text)
        assert (tmp_path / "x").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_failed_block_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "x", "one")
    with pytest.raises(UnicodeEncodeError), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half\ud800", "utf-8")
    assert (tmp_path / "x").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path, is_there: bool) -> None:
    """Also over another link, and where there is nothing yet."""
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/link")
    (tmp_path / "far" / "link").symlink_to("x")
    if is_there:
        (tmp_path / "far" / "x").write_text("one")
    write(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "link").is_symlink()
    assert (tmp_path / "far" / "x").read_text() == "two"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["far", "link", "link", "x"]


def test_nothing_is_left_where_a_folder_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(IsADirectoryError):
        write(tmp_path / "x", "one")
    assert [path.name for path in tmp_path.rglob("*")] == ["x"]
