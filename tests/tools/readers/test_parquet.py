import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import damaged
from hzlm.tools.readers.decompress import UNREADABLE
from hzlm.tools.readers.json_lines import NO_TEXT
from hzlm.tools.readers.lines import BROKEN_ENCODING, NULL_BYTES
from hzlm.tools.readers.parquet import DAMAGED, NO_COLUMN, read_parquet
from hzlm.tools.readers.troubles import Troubles

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow, of the extra data, is not installed")
parquet = pytest.importorskip("pyarrow.parquet")


def read(path: Path, column: str = "text") -> tuple[list[str], Troubles]:
    troubles = Troubles()
    return list(read_parquet(path, column, lambda number: f"row {number}", troubles)), troubles


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view"])
@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_rows(tmp_path: Path, kind: str, compression: str) -> None:
    texts = [f"第{i}行\n的文字" for i in range(1000)]
    column = pyarrow.array([*texts, None, "", " ", "末\x00行"]).cast(getattr(pyarrow, kind)())
    table = pyarrow.table({"id": list(range(1004)), "body": column})
    path = tmp_path / "a.parquet"
    parquet.write_table(table, path, row_group_size=300, compression=compression)
    found, troubles = read(path, "body")
    assert found == [*texts, "末行"]
    assert troubles.places == {NO_TEXT: ["row 1001", "row 1002", "row 1003"], NULL_BYTES: ["row 1004"]}


def test_a_large_row_group_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [random.Random(i).randbytes(5000).hex() for i in range(6000)]
    parquet.write_table(pyarrow.table({"text": texts}), path, use_dictionary=False)
    before = pyarrow.total_allocated_bytes()
    rows = read_parquet(path, "text", str, Troubles())
    assert next(rows) == texts[0]
    assert path.stat().st_size > 40 << 20
    assert pyarrow.total_allocated_bytes() - before < 20 << 20


def test_texts_that_are_no_utf8(tmp_path: Path) -> None:
    binary = pyarrow.array([b"\xff\xfe", "好".encode()], pyarrow.binary())
    broken = pyarrow.Array.from_buffers(pyarrow.string(), 2, binary.buffers())
    parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "a.parquet")
    found, troubles = read(tmp_path / "a.parquet")
    assert found == ["\ufffd\ufffd", "好"]
    assert troubles.places == {BROKEN_ENCODING: ["row 1"]}


def test_a_table_without_the_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": [1, 2], "body": ["a", "b"]}), path)
    for column in ("text", "none"):
        found, troubles = read(path, column)
        assert found == []
        assert troubles.to_json() == {NO_COLUMN: {"count": 1, "places": [f"{path} (column {column!r})"]}}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    found, troubles = read(tmp_path / "a.parquet")
    assert found == []
    assert troubles.counts == {UNREADABLE: 1}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_noted(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Pages have checksums; what lies between them has none."""
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    texts = [f"第{i}行" for i in range(50)]
    parquet.write_table(pyarrow.table({"text": texts}), path, write_page_checksum=True)
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    found, troubles = read(path)
    assert found == texts or set(troubles.counts) & {DAMAGED, NO_COLUMN, UNREADABLE, NO_TEXT}
