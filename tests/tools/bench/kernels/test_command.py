"""`hzlm bench kernels` without a GPU. Compiling needs a process where kernels are not decorated for the interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hzlm import cli
from hzlm.kernels.gpu.blocks import read_table
from hzlm.tools.bench.kernels.command import BUDGETS


def run_program(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500)


def run_command(*arguments: str, prologue: str = "") -> subprocess.CompletedProcess[str]:
    program = f"import sys\n{prologue}\nfrom hzlm.cli import main\nsys.exit(main(sys.argv[1:]))"
    return run_program(program, "bench", "kernels", *arguments)


def test_a_lowered_budget_is_a_regression(tmp_path: Path) -> None:
    name = "cached_attention.attend bf16"
    budgets = json.loads(BUDGETS.read_text("utf-8"))
    budgets[name]["80"]["registers"] -= 1
    lowered = tmp_path / "budgets.json"
    lowered.write_text(json.dumps(budgets), "utf-8")
    done = run_command("cached_attention", "--compile-only", "--budgets", str(lowered))
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
    done = run_command("--compile-only")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["spills"], found["over_budget"]) == (0, 0)
    assert found["kernels"] > 100


@pytest.mark.slow
def test_tuning_by_paper_writes_a_table_of_what_compiles(tmp_path: Path) -> None:
    table = tmp_path / "blocks.json"
    program = (
        "import sys\nfrom pathlib import Path\nfrom hzlm.tools.bench.kernels.command import tune_blocks\n"
        "tune_blocks(['cached_attention'], [80], Path(sys.argv[1]))"
    )
    done = run_program(program, str(table))
    assert done.returncode == 0, done.stderr
    *changes, last = done.stdout.splitlines()
    assert json.loads(last) == {"changed": len(changes)}
    before, after = read_table(), json.loads(table.read_text("utf-8"))
    assert after.keys() == before.keys()
    different = [key for key in before if after[key] != before[key]]
    assert different == (["cached_attention"] if changes else [])
    for old, new in zip(before["cached_attention"]["80"], after["cached_attention"]["80"], strict=True):
        assert sum(old[name] != new[name] for name in old) <= 1


def test_costs_are_a_markdown_table() -> None:
    done = run_command("layer_norm", "--paper")
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
    done = run_command("--compile-only", prologue="sys.modules['triton'] = None")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        'hzlm: error: triton is not installed, which this command needs; run: pip install "hzlm[bench]"'
    ]
