"""`hzlm bench kernels`: what it prints."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import triton

from hzlm.errors import UserError
from hzlm.kernels.gpu import blocks
from hzlm.tools.bench.kernels.binaries import compile_all, describe
from hzlm.tools.bench.kernels.budgets import find_excesses, read_budgets, write_budgets
from hzlm.tools.bench.kernels.configurations import check_operations, read_cases
from hzlm.tools.bench.kernels.paper import PEAKS, Peak, describe_costs
from hzlm.tools.bench.kernels.paper_gpu import paper_gpu
from hzlm.tools.bench.kernels.timing import Timer, bench_times, find_gpu, time_median
from hzlm.tools.bench.kernels.tune import judge_by_paper, judge_by_time, tune, write_table

FOLDER = Path(blocks.__file__).parent
BUDGETS = FOLDER / "budgets.json"


def check_binaries(names: Sequence[str], budgets: Path = BUDGETS, write: bool = False) -> int:
    """Compiles for A100 and H100, prints what each kernel takes, what is over its budget, and a JSON object.

    Args:
        names: of operations; none: all.
        budgets: the file of budgets.
        write: whether to make what is found the budgets.

    Returns:
        The exit status: 1 where a kernel is over its budget, spills registers, or has no budget.

    Raises:
        UserError: there is no such operation, or Triton interprets.
    """
    operations = check_operations(names)
    refuse_interpreter()
    compiled = compile_all(operations)
    print(describe(compiled))
    if write:
        write_budgets(budgets, compiled, read_budgets(budgets) if names else {})
    excesses = find_excesses(compiled, read_budgets(budgets), whole=not names)
    for line in excesses:
        print(line)
    found = {
        "kernels": len(compiled),
        "spills": sum(one.binary.stack > 0 for one in compiled),
        "max_shared_kb": round(max(one.binary.shared for one in compiled) / 1024, 1),
        "over_budget": len(excesses),
    }
    print(json.dumps(found))
    return 1 if excesses else 0


def print_costs(names: Sequence[str]) -> None:
    """Prints a Markdown table of what each case moves and computes by formula. Raises `UserError` as above."""
    operations = check_operations(names)
    refuse_interpreter()
    with paper_gpu(80):
        print(describe_costs(read_cases(operations)))


def time_kernels(names: Sequence[str], timer: Timer = time_median) -> None:
    """Times every case on the GPU of this machine; see `bench_times`. Raises `UserError` as above, or without a GPU."""
    operations = check_operations(names)
    refuse_interpreter()
    find_gpu()
    bench_times(read_cases(operations), timer)


def tune_blocks(names: Sequence[str], capabilities: Sequence[int], table: Path = FOLDER / blocks.FILE) -> None:
    """Chooses block sizes and writes their table; prints a line for each entry that changes, and a JSON object.

    Args:
        names: of operations; none: all.
        capabilities: to choose for where there is no GPU; otherwise it is that of the GPU.
        table: the file.

    Raises:
        UserError: there is no such operation or capability, or Triton interprets.
    """
    operations = check_operations(names)
    refuse_interpreter()
    if torch.cuda.is_available():
        changes = tune(operations, blocks.capability(), judge_by_time(find_gpu(), time_median))
    else:
        changes = []
        for peak in choose_peaks(capabilities):
            with paper_gpu(peak.capability):
                changes += tune(operations, peak.capability, judge_by_paper(peak))
    write_table(table)
    for line in changes:
        print(line)
    print(json.dumps({"changed": len(changes)}))


def choose_peaks(capabilities: Sequence[int]) -> list[Peak]:
    """The GPUs of these capabilities. Raises `UserError` for one of which nothing is known."""
    known = {peak.capability: peak for peak in PEAKS}
    for capability in capabilities:
        if capability not in known:
            raise UserError(f"--capabilities {capability} is not known; known: {', '.join(map(str, known))}")
    return [known[capability] for capability in capabilities]


def refuse_interpreter() -> None:
    """Raises `UserError` where kernels are decorated for the interpreter: nothing is compiled then."""
    if triton.knobs.runtime.interpret:
        raise UserError("TRITON_INTERPRET is set, so that Triton interprets kernels and compiles none; unset it")
