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
    environment.single_process_environment(variables)
    port = int(variables.pop("MASTER_PORT"))
    assert variables == {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def test_what_is_set_stays() -> None:
    given = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29511"}
    variables = dict(given)
    environment.single_process_environment(variables)
    assert variables == given


def test_a_launcher_is_refused() -> None:
    with pytest.raises(UserError, match="WORLD_SIZE is 4, but training runs in one process"):
        environment.single_process_environment({"WORLD_SIZE": "4"})


def test_a_lone_process_builds_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    environment.prepare_extension(1, tmp_path)
    assert deepspeed.ops.__compatible_ops__[environment.SHARED_MEMORY_EXTENSION] is False


def test_without_deepspeeds_mark_the_lock_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(deepspeed.ops, "__compatible_ops__")
    monkeypatch.delattr(deepspeed.ops, "__getattr__", raising=False)
    environment.prepare_extension(1, tmp_path)
    (tmp_path / "lock").touch()
    with pytest.raises(UserError, match="delete the file"):
        environment.prepare_extension(1, tmp_path)


def test_several_processes_refuse_a_lock_that_nobody_holds(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    environment.prepare_extension(2, tmp_path)
    holder = os.open(lock, os.O_CREAT | os.O_EXCL)
    environment.prepare_extension(2, tmp_path)
    os.close(holder)
    with pytest.raises(UserError, match=str(lock)):
        environment.prepare_extension(2, tmp_path)


def test_the_folder_is_the_one_that_torch_builds_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    folder = tmp_path / environment.SHARED_MEMORY_EXTENSION
    folder.mkdir()
    (folder / "lock").touch()
    with pytest.raises(UserError, match=str(folder)):
        environment.prepare_extension(2)


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
