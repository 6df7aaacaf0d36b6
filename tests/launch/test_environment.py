"""What a process without a launcher finds, and a build lock that nobody holds."""

import ctypes
import os
import socket
import subprocess
import sys
from pathlib import Path

import deepspeed.ops
import pytest

from hzlm.errors import UserError
from hzlm.launch import environment


@pytest.fixture(autouse=True)
def _keep_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks set by a test do not outlive it."""
    monkeypatch.setattr(deepspeed.ops, "__compatible_ops__", dict(deepspeed.ops.__compatible_ops__))


def test_a_lone_process_gets_everything_that_is_absent() -> None:
    variables: dict[str, str] = {}
    environment.complete_environment(variables)
    port = int(variables.pop("MASTER_PORT"))
    assert variables == {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


@pytest.mark.parametrize("ranks", ["1", "4"])
def test_what_a_launcher_has_set_stays(ranks: str) -> None:
    given = {"RANK": "0", "WORLD_SIZE": ranks, "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29511"}
    variables = dict(given)
    environment.complete_environment(variables)
    assert variables == given


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"WORLD_SIZE": "4", "RANK": "1"}, "WORLD_SIZE is 4, but LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "four"}, "WORLD_SIZE is 'four' in the environment, not a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "1"}, "RANK is 2, but WORLD_SIZE is 1"),
    ],
)
def test_half_a_launcher_is_refused(variables: dict[str, str], text: str) -> None:
    with pytest.raises(UserError, match=text):
        environment.complete_environment(variables)


def test_the_first_process_speaks() -> None:
    assert environment.is_first_process({})
    assert environment.is_first_process({"RANK": "0"})
    assert not environment.is_first_process({"RANK": "3"})


def test_nothing_is_built(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    environment.skip_extension(tmp_path)
    assert deepspeed.ops.__compatible_ops__[environment.SHARED_MEMORY_EXTENSION] is False


@pytest.fixture
def without_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DeepSpeed that lacks what its extensions are marked in, as another version may."""
    monkeypatch.delattr(deepspeed.ops, "__compatible_ops__")
    monkeypatch.delattr(deepspeed.ops, "__getattr__", raising=False)


@pytest.mark.usefixtures("without_mark")
def test_without_deepspeeds_mark_a_lock_that_nobody_holds_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    environment.skip_extension(tmp_path)
    holder = os.open(lock, os.O_CREAT | os.O_EXCL)
    environment.skip_extension(tmp_path)
    os.close(holder)
    with pytest.raises(UserError, match=f"{lock}.*delete the file"):
        environment.skip_extension(tmp_path)


@pytest.mark.usefixtures("without_mark")
def test_the_folder_is_the_one_that_torch_builds_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    folder = tmp_path / environment.SHARED_MEMORY_EXTENSION
    folder.mkdir()
    (folder / "lock").touch()
    with pytest.raises(UserError, match=str(folder)):
        environment.skip_extension()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_freed_memory_is_kept() -> None:
    program = """
import resource
from hzlm.launch.environment import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(b"x") * (16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
keep_freed_memory()
faults()
print(usual, faults())
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    usual, kept = map(int, found.stdout.split())
    assert kept < usual / 10
