"""`hzlm bench kernels` without a GPU. Compiling needs a process where kernels are not decorated for the interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hzlm import cli
from hzlm.tools.bench.kernels.command import BUDGETS


def run_compiled(*arguments: str, prologue: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = (
        f"import sys\n{prologue}\nfrom hzlm.cli import main\nif __name__ == '__main__': sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "bench", "kernels", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)


def test_a_lowered_budget_is_a_regression(tmp_path: Path) -> None:
    name = "cached_attention.attend bf16"
    budgets = json.loads(BUDGETS.read_text("utf-8"))
    budgets[name]["80"]["registers"] -= 1
    lowered = tmp_path / "budgets.json"
    lowered.write_text(json.dumps(budgets), "utf-8")
    done = run_compiled("cached_attention", "--compile-only", "--budgets", str(lowered))
    assert done.returncode == 1, done.stderr
    *table, line, last = done.stdout.splitlines()
    assert line.startswith(f"{name} on 8.0 (")
    assert line.endswith(f"registers, at most {budgets[name]['80']['registers']} are allowed")
    assert table[0].startswith("kernel ")
    found = json.loads(last)
    assert found.keys() == {"kernels", "spills", "max_shared_kb", "over_budget"}
    assert (found["spills"], found["over_budget"]) == (0, 1)
    assert found["kernels"] >= len({line.split("  ")[0] for line in table[1:]}) * 2


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_every_kernel_of_every_config_compiles_within_its_budget() -> None:
    done = run_compiled("--compile-only")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["spills"], found["over_budget"]) == (0, 0)
    assert found["kernels"] > 100


def test_costs_are_a_markdown_table() -> None:
    done = run_compiled("layer_norm", "--paper")
    assert done.returncode == 0, done.stderr
    head, rule, *lines = done.stdout.splitlines()
    assert head.startswith("| operation")
    assert set(rule) == set("|-: ")
    assert all(line.startswith("| layer_norm ") for line in lines)
    assert {"tiny", "small", "base", "large", "xl"} == {line.split("|")[2].strip() for line in lines}


@pytest.mark.parametrize("way", ["--compile-only", "--paper", "--tune", "--write-budgets"])
def test_the_interpreter_is_refused(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "kernels", way]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "TRITON_INTERPRET is set" in line


def test_triton_may_be_missing() -> None:
    done = run_compiled("--compile-only", prologue="sys.modules['triton'] = None")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        'hzlm: error: triton is not installed, which this command needs; run: pip install "hzlm[bench]"'
    ]
