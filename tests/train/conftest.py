"""What tests of training share."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from hzlm.config import ModelConfig
from runs import Runner, fresh_environment

Write = Callable[[Path, Sequence[str]], Path]


@pytest.fixture(scope="session")
def _server() -> Iterator["subprocess.Popen[str]"]:
    program = Path(__file__).parents[1] / "fork_server.py"
    pipe = subprocess.PIPE
    environment = fresh_environment()
    with subprocess.Popen([sys.executable, program], stdin=pipe, stdout=pipe, text=True, env=environment) as server:
        yield server
        server.communicate()


@pytest.fixture
def runner(
    _server: "subprocess.Popen[str]",
    tmp_path: Path,
    write_dataset: Write,
    sentences: list[str],
    model_config: ModelConfig,
) -> Runner:
    run = {
        "model": model_config.model_dump() | {"dropout": 0.1},
        "data": {
            "path": str(write_dataset(tmp_path / "data", sentences)), "row_length": 20,
            "views": {"pinyin": 2.0, "masked": 1.0},
        },
        "loss": {"encoder_weight": 0.5},
        "schedule": {"scale": 1.0, "warmup_steps": 4},
        "train": {
            "output": "given by the test", "steps": 12, "micro_batch_rows": 2, "accumulation": 3, "log_every": 2,
            "evaluate_every": 5, "save_every": 3, "precision": "bf16",
        },
    }  # fmt: skip
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(run), "utf-8")
    return Runner(_server, tmp_path, config)
