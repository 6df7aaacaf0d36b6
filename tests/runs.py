"""Training runs in processes of their own, and what two equal ones have in common."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from hzlm.model.pretrained import find_checkpoint
from hzlm.train.records import TIMING, read_metrics


def fresh_environment() -> dict[str, str]:
    """Without what a training run in this process has set, such as the port that it listens on."""
    set_by_runs = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
    return {name: value for name, value in os.environ.items() if name not in set_by_runs}


class Runner:
    """Runs `hzlm train` in processes that may be killed."""

    def __init__(self, server: "subprocess.Popen[str]", folder: Path, config: Path):
        self._server = server
        self.folder = folder
        self.config = config
        """A run of 12 steps: three micro-batches of two rows each, five steps an epoch, a checkpoint every third."""

    def start(self, name: str, *overrides: str, **order: Any) -> int:
        """Starts the run `name`, its folder under `folder`; returns the process id. `wait` has to follow."""
        order["log"] = str(self.log(name))
        order["arguments"] = ["train", str(self.config), f"train.output={self.folder / name}", *overrides]
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._read())

    def wait(self) -> int:
        """The exit status of the run that was started; the negative number of the signal that killed it."""
        return int(self._read())

    def run(self, name: str, *overrides: str, **order: Any) -> int:
        """As `start` and `wait`."""
        self.start(name, *overrides, **order)
        return self.wait()

    def log(self, name: str) -> Path:
        """The output of all starts of a run."""
        return self.folder / f"{name}.log"

    def _read(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline()


def assert_equal_runs(folder: Path, expected: Path) -> None:
    """Two runs have come to the same end: what they measured, and every bit of what they saved."""
    metrics, wanted = (
        [{key: value for key, value in line.items() if key not in TIMING} for line in read_metrics(run)]
        for run in (folder, expected)
    )
    assert metrics == wanted
    checkpoints, others = folder / "checkpoints", expected / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == sorted(path.name for path in others.iterdir())
    for name in ("latest", "best"):
        assert (checkpoints / name).read_text() == (others / name).read_text()
    for other in others.glob("step_*"):
        mine = checkpoints / other.name
        stored, theirs = (json.loads((path / "manifest.json").read_text()) for path in (mine, other))
        for manifest in (stored, theirs):
            del manifest["files"]["config.yaml"], manifest["checksum"]
        assert stored == theirs, "checksums of all tensors among them"
        for file in stored["files"]:
            assert (mine / file).read_bytes() == (other / file).read_bytes()
    assert find_checkpoint(folder) is not None
