"""`hzlm bench data`: how fast text becomes a dataset, in how much memory, and how fast datasets are built and read."""

import json
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

from hzlm.tools.bench.datasets import build_vs_megatron, read_vs_megatron
from hzlm.tools.engines.local import LocalEngine
from hzlm.tools.prepare import prepare
from hzlm.tools.stages.config import PrepareConfig
from hzlm.tools.stages.run import MODULES

SAMPLE_SECONDS = 0.2


def bench_data(inputs: Sequence[Path], workers: int, scratch: Path) -> None:
    """Prepares text and prints the report, and one JSON object as the last line.

    `prepare_chars_per_s`: characters read a second, from the files to the dataset. `peak_memory_mb`: of all processes
    together, what they share counted once (PSS), looked at five times a second. `build_vs_megatron` and
    `read_vs_megatron`: speed of building the index and of random reads over that of Megatron-Core, on the training
    split that was prepared.

    Args:
        inputs: files and folders of text.
        workers: processes.
        scratch: a folder in which to write; what is written there is removed.

    Raises:
        UserError: as `prepare` does.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".data.", dir=scratch) as folder:
        dataset = Path(folder) / "data"
        with _PeakMemory() as memory:
            report = prepare(inputs, dataset, PrepareConfig(), LocalEngine(workers, MODULES))
        print(report)
        found = {
            "prepare_chars_per_s": round(report.characters / report.seconds),
            "build_vs_megatron": round(build_vs_megatron(dataset), 2),
            "read_vs_megatron": round(read_vs_megatron(dataset), 2),
            "peak_memory_mb": memory.peak >> 20,
        }
    print(json.dumps(found))


class _PeakMemory:
    """Looks at the memory of this process and all below it, until the block ends."""

    def __init__(self) -> None:
        self.peak = 0
        """Largest proportional set size of all together, in bytes."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        this = psutil.Process()
        while not self._ended.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, sum(map(_memory_of, (this, *this.children(recursive=True)))))


def _memory_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # It has ended meanwhile.
        return 0
