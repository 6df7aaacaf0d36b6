import gzip
import lzma
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from damage import damaged
from hzlm.tools.readers.decompress import CUT_OFF, DAMAGED, UNREADABLE, read_blocks
from hzlm.tools.readers.files import Piece
from hzlm.tools.readers.troubles import Troubles

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}
# Compresses to about half, so that much of the file lies before a damage.
CONTENT = random.Random(1).randbytes(150_000).hex().encode()


def read(path: Path) -> tuple[bytes, Troubles]:
    troubles = Troubles()
    return b"".join(read_blocks(Piece(path, 0, path.stat().st_size), troubles)), troubles


@pytest.mark.parametrize("suffix", COMPRESS)
@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=5), padded=st.booleans())
def test_several_streams_in_one_file(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, parts: list[bytes], padded: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / f"several{suffix}"
    padding = bytes(8) if padded and suffix != ".zst" else b""
    path.write_bytes(padding.join(map(COMPRESS[suffix], parts)) + padding)
    content, troubles = read(path)
    assert content == b"".join(parts)
    assert not troubles.counts


@given(start=st.integers(0, 50), size=st.integers(0, 50))
def test_a_plain_file_is_read_from_start_to_end(
    tmp_path_factory: pytest.TempPathFactory, start: int, size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.txt"
    path.write_bytes(bytes(range(60)))
    assert b"".join(read_blocks(Piece(path, start, start + size), Troubles())) == bytes(range(60))[start : start + size]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_what_lies_before_a_cut_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    compressed = COMPRESS[suffix](CONTENT)
    path.write_bytes(compressed[: len(compressed) * 2 // 3])
    content, troubles = read(path)
    assert len(content) > len(CONTENT) // 4
    assert CONTENT.startswith(content)
    assert troubles.to_json() == {CUT_OFF: {"count": 1, "places": [str(path)]}}


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_what_lies_before_a_damage_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    compressed = COMPRESS[suffix](CONTENT)
    path.write_bytes(compressed + b"no compressed stream")
    content, troubles = read(path)
    assert CONTENT.startswith(content)
    assert len(content) > len(CONTENT) - 20_000
    assert troubles.counts == {DAMAGED: 1}
    assert troubles.places[DAMAGED][0].startswith(f"{path} (")


@given(suffix=st.sampled_from(sorted(COMPRESS)), data=st.data())
def test_damage_is_noted_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    whole = CONTENT[:100]
    path.write_bytes(data.draw(damaged(COMPRESS[suffix](whole))))
    content, troubles = read(path)
    assert troubles.counts.total() <= 1
    # An empty file is a whole one of nothing; the header of zstandard has no checksum.
    if suffix != ".zst" and path.stat().st_size and not troubles.counts:
        assert content == whole


def test_what_grows_without_end_takes_little_memory(tmp_path: Path) -> None:
    """512 MiB in 20 kB."""
    path = tmp_path / "bomb.zst"
    path.write_bytes(zstandard.ZstdCompressor(level=19).compress(bytes(1 << 20)) * 512)
    tracemalloc.start()
    size = sum(len(block) for block in read_blocks(Piece(path, 0, 0), Troubles()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 512 << 20
    assert peak < 300 << 20


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    troubles = Troubles()
    for path in (tmp_path, tmp_path / "gone.xz"):
        assert list(read_blocks(Piece(path, 0, 9), troubles)) == []
    assert troubles.places[UNREADABLE] == [
        f"{tmp_path} (Is a directory)",
        f"{tmp_path / 'gone.xz'} (No such file or directory)",
    ]
