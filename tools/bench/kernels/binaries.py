"""Every kernel of every configuration as machine code: what it takes of a GPU."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

from hzlm.progress import Progress
from hzlm.table import format_table
from hzlm.tools.bench.kernels.configurations import read_configurations
from hzlm.tools.bench.kernels.paper_gpu import LIMITS, Binary, compile_launches, paper_gpu

META = torch.device("meta")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
"""Of weights and activations in training."""


@dataclass(frozen=True)
class Compiled:
    """A binary, and who launches it."""

    binary: Binary
    configurations: tuple[str, ...]
    """In the order in which they were found."""


def compile_all(operations: Sequence[str], capabilities: Sequence[int] = tuple(LIMITS)) -> list[Compiled]:
    """The binaries of some operations, by operation and capability; each capability in a process of its own."""
    context = get_context("spawn")
    found: dict[tuple[str, int], list[Compiled]] = {}
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(len(operations) * len(capabilities), "compiling", "operations"))
        waiting: dict[Future[list[Compiled]], tuple[str, int]] = {}
        for capability in capabilities:
            # one process for all operations, since some of them launch the same kernels
            pool = stack.enter_context(ProcessPoolExecutor(1, context))
            waiting |= {pool.submit(compile_operation, name, capability): (name, capability) for name in operations}
        for done in as_completed(waiting):
            found[waiting[done]] = done.result()
            bar.advance()
    together: dict[Binary, dict[str, None]] = {}
    for job in ((name, capability) for name in operations for capability in capabilities):
        for compiled in found[job]:
            together.setdefault(compiled.binary, {}).update(dict.fromkeys(compiled.configurations))
    return [Compiled(binary, tuple(names)) for binary, names in together.items()]


def compile_operation(operation: str, capability: int) -> list[Compiled]:
    """The binaries of every configuration, forward and backward, with dropout and without it."""
    # what Triton 3.9 does by default, with a warning
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    found: dict[Binary, dict[str, None]] = {}
    for configuration in read_configurations(operation):
        for variant in (configuration, configuration.with_other_dropout()):
            with paper_gpu(capability):
                cases = variant.cases(operation)
            for case in cases:
                for dtype in DTYPES:
                    inputs = [_cast(value, dtype) for value in case.inputs(META)]
                    for binary in compile_launches(capability, partial(case.kernel, *inputs)):
                        found.setdefault(binary, {})[configuration.name] = None
    return [Compiled(binary, tuple(names)) for binary, names in found.items()]


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """An input of a case as it is in a run of another dtype: the cases are of bf16."""
    if not isinstance(value, Tensor) or value.dtype != torch.bfloat16:
        return value
    cast = torch.empty_strided(value.size(), value.stride(), dtype=dtype, device=value.device)
    return cast.requires_grad_(value.requires_grad)


def describe(compiled: Sequence[Compiled]) -> str:
    """A line for all binaries of a kernel that the same configurations launch: the worst of each figure."""
    groups: dict[tuple[str, int, str], list[Binary]] = {}
    for one in compiled:
        key = (one.binary.name, one.binary.capability, " ".join(one.configurations))
        groups.setdefault(key, []).append(one.binary)
    rows = [
        (
            name,
            configurations,
            f"{capability / 10:.1f}",
            str(len(binaries)),
            str(max(binary.registers for binary in binaries)),
            str(max(binary.stack for binary in binaries)),
            f"{max(binary.shared for binary in binaries) / 1024:.1f}",
            str(max(binary.threads for binary in binaries)),
            f"{min(binary.occupancy for binary in binaries):.0%}",
            str(min(binary.tensor_core for binary in binaries)),
        )
        for (name, capability, configurations), binaries in groups.items()
    ]
    head = (
        "kernel", "configurations",
        "GPU", "binaries", "registers", "stack", "shared KB", "threads", "occupancy", "tensor core",
    )  # fmt: skip
    return format_table(head, rows, names=2)
