import codecs
import gzip
import json
import lzma
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import damaged
from hzlm.tools.readers import borders
from hzlm.tools.readers.config import InputConfig
from hzlm.tools.readers.decompress import CUT_OFF, UNREADABLE
from hzlm.tools.readers.documents import EMPTY, read_documents
from hzlm.tools.readers.encoding import OTHER_ENCODING, UNKNOWN_ENCODING
from hzlm.tools.readers.files import Piece, cut_pieces
from hzlm.tools.readers.lines import BROKEN_ENCODING, LONG_LINE
from hzlm.tools.readers.text import LONG_DOCUMENT
from hzlm.tools.readers.troubles import Troubles

TEXT = """改革开放以来，我国经济社会发展取得了很大的成就，人民的生活水平不断提高。
今天天气不错，我们一起去公园里走一走吧！他说这是他一生中最高兴的一天。

这本书写得很好，内容丰富，看了以后学到不少东西，推荐给大家。
"""
DOCUMENTS = [part.strip() for part in TEXT.split("\n\n")]


def read(path: Path, config: InputConfig | None = None, piece_bytes: int = 1 << 30) -> tuple[list[str], Troubles]:
    troubles = Troubles()
    pieces = cut_pieces([path], piece_bytes)
    found = [text for piece in pieces for text in read_documents(piece, config or InputConfig(), troubles)]
    return found, troubles


LINES = st.lists(
    st.sampled_from(["一", "二。", "\n", "\n\n", " ", "\r\n", "\u3000", "a", "\x00", "\ufeff"]), max_size=60
)


@settings(max_examples=300)
@given(lines=LINES, piece_bytes=st.integers(1, 80), document=st.sampled_from(["auto", "blank-line", "line"]))
def test_pieces_break_no_document(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], piece_bytes: int, document: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "pieces.txt"
    path.write_bytes("".join(lines).encode())
    config = InputConfig.model_validate({"document": document})
    whole, _ = read(path, config)
    found, _ = read(path, config, piece_bytes)
    assert found == whole
    assert not any(c in text for text in found for c in "\x00")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_lines_are_documents_where_blank_lines_part_nothing(tmp_path: Path, encoding: str, line_end: str) -> None:
    path = tmp_path / "a.txt"
    lines = TEXT.split("\n")
    without = [line for line in lines if line]
    stray = [*without * 50, "", *without * 50, "", ""]
    for content, documents in ((lines, DOCUMENTS), (without, without), (stray, without * 100)):
        path.write_bytes(line_end.join(content).encode(encoding))
        for piece_bytes in (100, 1 << 20):
            found, _ = read(path, piece_bytes=piece_bytes)
            assert found == documents


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)), piece_bytes=st.integers(1, 80))
def test_pieces_break_no_record(tmp_path_factory: pytest.TempPathFactory, texts: list[str], piece_bytes: int) -> None:
    path = tmp_path_factory.getbasetemp() / "pieces.jsonl"
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    found, _ = read(path, piece_bytes=piece_bytes)
    cleaned = (text.replace("\x00", "") for text in texts)
    assert found == [text for text in cleaned if text and not text.isspace()]


@given(lines=LINES, piece_bytes=st.integers(8, 40), longest=st.integers(8, 20))
def test_pieces_of_text_without_blank_lines_hold_all_of_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], piece_bytes: int, longest: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "long.txt"
    path.write_bytes("".join(lines).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(borders, "_DOCUMENT_BYTES", longest)
        patch.setattr(borders, "_WINDOW_BYTES", 1)
        found, troubles = read(path, piece_bytes=piece_bytes)
    text = "".join(lines).encode().decode("utf-8-sig").replace("\x00", "")
    assert "".join("".join(found).split()) == "".join(text.split())
    assert BROKEN_ENCODING not in troubles.counts


def test_places_in_pieces_lead_to_the_line(tmp_path: Path) -> None:
    path = tmp_path / "news.txt"
    content = ("一行文字\n\n".encode() * 50) + b"\xff\n" + "末行".encode()
    path.write_bytes(content)
    _, troubles = read(path)
    assert troubles.places[BROKEN_ENCODING] == [f"{path}, line 101"]
    _, troubles = read(path, piece_bytes=300)
    (place,) = troubles.places[BROKEN_ENCODING]
    words = place.removeprefix(f"{path}, line ").split(" behind byte ")
    assert content[int(words[1]) :].split(b"\n")[int(words[0]) - 1] == b"\xff"


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("suffix", [".txt", ".txt.gz"])
@pytest.mark.parametrize("piece_bytes", [100, 1 << 20])
def test_other_encodings(tmp_path: Path, encoding: str, suffix: str, piece_bytes: int) -> None:
    path = tmp_path / f"a{suffix}"
    content = TEXT.encode(encoding)
    path.write_bytes(content if suffix == ".txt" else gzip.compress(content))
    found, troubles = read(path, piece_bytes=piece_bytes)
    assert found == DOCUMENTS
    assert troubles.counts == ({} if encoding == "utf-8-sig" else {OTHER_ENCODING: 1})


def test_a_file_in_no_known_encoding_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(os.urandom(5000))
    found, troubles = read(path, piece_bytes=1000)
    assert found == []
    assert troubles.to_json() == {UNKNOWN_ENCODING: {"count": 1, "places": [f"{path} (unknown)"]}}


def test_records_behind_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(codecs.BOM_UTF8 + b'{"body": "a"}\n{"body": "b"}')
    found, troubles = read(path, InputConfig(text_field="body"))
    assert found == ["a", "b"]
    assert not troubles.counts


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.warc", b"")]
    + [
        (name, content)
        for name in ("a.txt", "a.jsonl", "a.json.gz", "a.html", "a.txt.xz")
        for content in (b"", b" \n\n\t\n")
    ],
)
def test_files_without_text(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    compress = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(content))
    found, troubles = read(path)
    assert found == []
    assert troubles.to_json() == {EMPTY: {"count": 1, "places": [str(path)]}}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("gone.txt", "gone.txt.gz", "gone.parquet", "gone.warc", "gone.html", "gone.jsonl"):
        found, troubles = read(tmp_path / name)
        assert found == []
        assert troubles.counts == {UNREADABLE: 1}, name
        assert troubles.places[UNREADABLE][0].startswith(f"{tmp_path / name} (")


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".parquet", ".warc", ".html", ".jsonl"])
@pytest.mark.parametrize(("target", "reason"), [("gone", "No such file"), ("loop", "Too many levels")])
def test_links_that_lead_nowhere(tmp_path: Path, suffix: str, target: str, reason: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / f"link{suffix}"
    path.symlink_to(target)
    found, troubles = read(path)
    assert found == []
    assert troubles.counts == {UNREADABLE: 1}
    assert troubles.places[UNREADABLE][0].startswith(f"{path} ({reason}")


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".parquet", ".warc", ".html", ".jsonl"])
def test_files_deleted_before_they_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(TEXT, "utf-8")
    pieces = cut_pieces([path], 100)
    path.unlink()
    for piece in pieces:
        troubles = Troubles()
        assert list(read_documents(piece, InputConfig(), troubles)) == []
        assert troubles.counts == {UNREADABLE: 1}


def test_names_in_upper_case(tmp_path: Path) -> None:
    for name, compress in (("A.TXT", bytes), ("A.TXT.GZ", gzip.compress), ("A.Txt.Xz", lzma.compress)):
        (tmp_path / name).write_bytes(compress(TEXT.encode()))
        found, troubles = read(tmp_path / name)
        assert found == DOCUMENTS
        assert not troubles.counts


def test_what_lies_before_the_end_of_a_cut_off_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    lines = [f"第{i}行：{hash(str(i))}" for i in range(9999)]
    compressed = gzip.compress("\n\n".join(lines).encode())
    path.write_bytes(compressed[: len(compressed) // 2])
    found, troubles = read(path)
    assert len(found) > 3000
    assert found[:-1] == lines[: len(found) - 1]
    assert troubles.counts[CUT_OFF] == 1


def test_one_line_of_64_mb_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    sentence = "这是一句话，不长也不短。".encode()
    with path.open("wb") as file:
        for _ in range(64):
            file.write(sentence * ((1 << 20) // len(sentence)))
    tracemalloc.start()
    troubles = Troubles()
    texts = read_documents(Piece(path, 0, path.stat().st_size), InputConfig(document="blank-line"), troubles)
    size = sum(len(text.replace("\n", "")) for text in texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == path.stat().st_size // 3
    assert peak < 16 << 20
    assert troubles.counts == {LONG_LINE: 1, LONG_DOCUMENT: 1}


@settings(max_examples=200)
@given(name=st.sampled_from(["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.xz", "a.txt.zst", "a.warc.gz"]), data=st.data())
def test_damaged_files_stop_nothing(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / name
    plain = '{"text": "第一行，\\n第二行"}\n{"id": 3, "text": "末行"}\n'.encode()
    compress = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(data.draw(damaged(compress(plain))))
    found, troubles = read(path)
    assert found or troubles.counts
    assert all(text.strip() and "\x00" not in text for text in found)
    "".join(found).encode()
