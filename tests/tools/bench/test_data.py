import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hzlm import cli
from hzlm.tools.bench import datasets
from hzlm.tools.bench.data import _PeakMemory

pytest.importorskip("megatron.core", reason="needs megatron-core")


def test_the_last_line_is_json(
    tmp_path: Path, sentences: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "ROUNDS", 1)
    monkeypatch.setattr(datasets, "READS", 1000)
    Path("a.txt").write_text("\n".join(sentences), "utf-8")
    assert cli.main(["bench", "data", "a.txt", "--workers", "1"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found.keys() == {"prepare_chars_per_s", "build_vs_megatron", "read_vs_megatron", "peak_memory_mb"}
    assert all(value > 0 for value in found.values())
    assert list(Path("runs/bench").iterdir()) == []


def test_memory_of_processes_below_is_counted() -> None:
    with _PeakMemory() as memory:
        time.sleep(0.5)
        before = memory.peak
        subprocess.run([sys.executable, "-c", "import time; x = b'1' * (200 << 20); time.sleep(1)"], check=True)
    assert memory.peak - before > 190 << 20
