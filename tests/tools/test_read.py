import gzip
import json
import lzma
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from damage import altered_json, answer_of, damaged
from hzlm.errors import UserError
from hzlm.tools.read import find_files, read_texts, source_name

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
}
LINES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\x00\ufeff")))


def read(path: Path) -> list[str]:
    return list(read_texts(path, lambda count: None))


def refuse(path: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in (str(path), *parts)), message


@pytest.mark.parametrize("suffix", COMPRESS)
@given(lines=LINES, ended=st.booleans())
def test_lines_of_text(tmp_path_factory: pytest.TempPathFactory, suffix: str, lines: list[str], ended: bool) -> None:
    path = tmp_path_factory.mktemp("read") / f"a.txt{suffix}"
    content = ("\n".join(["首行", *lines]) + "\n" * ended).encode()
    path.write_bytes(COMPRESS[suffix](content))
    taken: list[int] = []
    assert list(read_texts(path, taken.append)) == [line for line in ["首行", *lines] if line.strip()]
    assert sum(taken) == path.stat().st_size


@pytest.mark.parametrize("suffix", COMPRESS)
def test_json_lines(tmp_path: Path, suffix: str) -> None:
    texts = ["第一行\n第二行", '引号"和\\', "𠮷"]
    lines = [json.dumps({"id": i, "text": text}, ensure_ascii=i % 2 == 0) for i, text in enumerate(texts)]
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(COMPRESS[suffix]("\n\n".join(lines).encode()))
    assert read(path) == texts


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_several_compressed_streams_in_one_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    padding = b"" if suffix == ".zst" else bytes(8)
    path.write_bytes(COMPRESS[suffix]("一\n".encode()) + padding + COMPRESS[suffix]("二\n".encode()) + padding)
    assert read(path) == ["一", "二"]


def test_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "一\r\n二\r\n".encode())
    assert [text.strip() for text in read(path)] == ["一", "二"]


def test_a_line_of_many_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    text = "长" * 100_000
    path.write_text(f"{text}\n短\n{text}", encoding="utf-8")
    assert read(path) == [text, "短", text]


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.txt", b"", ["no text"]),
        ("a.txt", b" \n\n\t\n", ["no text"]),
        ("a.jsonl", b'{"text": " "}', ["no text"]),
        ("a.txt.gz", gzip.compress(b""), ["no text"]),
        ("a.txt.gz", b"", ["no text"]),
        ("a.txt", "一\n二".encode() + b"\xff", ["line 2", "byte 7 (0xff)", "UTF-8"]),
        ("a.txt", "\ufeff一".encode() + b"\xe4\xb8", ["line 1", "byte 6 (0xe4)"]),
        ("a.txt", "一国".encode("gb18030"), ["line 1", "byte 2 (0xb9)"]),
        ("a.txt", "一\nab\x00".encode(), ["line 2", "byte 6 (0x00)"]),
        ("a.txt", "wo ai".encode("utf-16-le"), ["line 1", "byte 1 (0x00)"]),
        ("a.txt", b"\x89PNG\r\n\x1a\n\x00", ["line 1", "byte 0 (0x89)"]),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', ["line 2", "no JSON"]),
        ("a.jsonl", b'["a"]', ["line 1", "no text here"]),
        ("a.jsonl", b'{"content": "a"}', ["line 1", "no text here"]),
        ("a.jsonl", b'{"text": 3}', ["line 1", "no text here"]),
        ("a.jsonl", b'{"text": "\\ud800"}', ["line 1", "surrogate"]),
        ("a.jsonl", b"[" * 100_000, ["line 1", "no JSON (nested too deeply)"]),
        ("a.jsonl", b"9" * 5000, ["line 1", "no JSON (Exceeds the limit"]),
        ("a.txt.gz", b"plain text", ["damaged"]),
        ("a.txt.xz", b"plain text", ["damaged"]),
        ("a.txt.zst", b"plain text", ["damaged"]),
    ],
)
def test_what_is_no_text(tmp_path: Path, name: str, content: bytes, parts: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    refuse(path, *parts)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_compressed_file_that_is_cut_off(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    content = COMPRESS[suffix](b"".join(struct.pack("<I", i * 2654435761 % 2**32).hex().encode() for i in range(9999)))
    path.write_bytes(content[: len(content) // 2])
    refuse(path, "cut off")


def test_find_files(tmp_path: Path) -> None:
    wanted = ["b.txt", "a.jsonl.gz", "sub/c.txt.xz", "sub/a.json"]
    for name in [*wanted, "notes.md", ".hidden.txt", ".git/x.txt", "archive.gz"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    notes, first = tmp_path / "notes.md", tmp_path / "a.jsonl.gz"
    assert find_files([tmp_path]) == [tmp_path / name for name in sorted(wanted)]
    # Named files are taken whatever they are called, and once.
    assert find_files([notes, first, tmp_path])[:2] == [notes, first]
    assert len(find_files([notes, first, tmp_path])) == 5


def test_missing_inputs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.txt: no such file"):
        find_files([tmp_path / "none.txt"])
    with pytest.raises(UserError, match=r"no \.txt or \.jsonl file in this folder"):
        find_files([tmp_path])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("news.txt.xz", "news"), ("a.b.jsonl", "a.b"), ("plain", "plain"), ("x.tsv", "x.tsv"), ("y.gz", "y")],
)
def test_source_name(name: str, expected: str) -> None:
    assert source_name(Path("folder") / name) == expected


CONTENT = '{"text": "第一行，\\n第二行"}\n{"id": 3, "text": "末行"}\n'.encode()


@settings(max_examples=200)
@given(suffix=st.sampled_from([".txt", ".jsonl", ".txt.gz", ".jsonl.xz", ".txt.zst"]), data=st.data())
def test_damaged_files_are_other_text_or_refused(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    plain, compression = CONTENT, COMPRESS["" if suffix in (".txt", ".jsonl") else path.suffix]
    if suffix == ".jsonl":
        plain = data.draw(st.just(CONTENT) | altered_json({"text": "行", "more": [1]}))
    path.write_bytes(data.draw(damaged(compression(plain))))
    texts = answer_of(lambda: read(path), path)
    if texts is not None:
        assert all("\x00" not in text or suffix == ".jsonl" for text in texts)
        assert "".join(texts).strip()
        "".join(texts).encode()
    # These two have checksums over the whole content; gzip's header and what lies between streams do not count.
    if suffix in (".txt.gz", ".jsonl.xz") and texts is not None:
        whole = [text for text in CONTENT.decode().split("\n") if text]
        assert texts == (whole if suffix == ".txt.gz" else [json.loads(text)["text"] for text in whole])


def test_what_grows_without_end_when_decompressed_is_refused_in_little_memory(tmp_path: Path) -> None:
    """512 MiB of one letter in 20 kB: no line of text is that long."""
    path = tmp_path / "bomb.txt.zst"
    path.write_bytes(zstandard.ZstdCompressor(level=19).compress(b"a" * (1 << 20)) * 512)
    tracemalloc.start()
    refuse(path, "a line of more than 256 MiB is no text")
    assert tracemalloc.get_traced_memory()[1] < 300 << 20
    tracemalloc.stop()


def test_a_folder_and_a_file_without_permission(tmp_path: Path) -> None:
    refuse(tmp_path, "Is a directory")
    path = tmp_path / "a.txt"
    path.write_text("一", "utf-8")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    refuse(path, "Permission denied")
