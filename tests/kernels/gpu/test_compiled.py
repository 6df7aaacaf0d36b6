"""All operations at once: compiled, on a GPU; and in the interpreter, by the same program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from compiled import SHAPE, measure_errors

from hzlm.kernels.faces import choose_kernels

PROGRAM = Path(__file__).parents[2] / "compiled.py"
# the spacing of numbers beside 1, times what sums of some hundred terms add up to
TOLERANCES = {"torch.float32": 2e-5, "torch.float16": 5e-3, "torch.bfloat16": 4e-2}


def check(errors: dict[str, float]) -> None:
    assert len(errors) == 48
    assert {case: error for case, error in errors.items() if not error <= TOLERANCES[case.split()[1]]} == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_compiled_kernels_equal_their_references() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True, check=True)
    check(json.loads(done.stdout.splitlines()[-1]))


def test_interpreted_kernels_equal_their_references() -> None:
    cpu = torch.device("cpu")
    check(measure_errors(choose_kernels("triton", cpu, SHAPE), cpu, 1, 19))
