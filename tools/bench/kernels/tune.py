"""Block sizes chosen by trying: each entry of the table against its neighbours, one block size twice or half as large.

On a GPU the judge is time. Without one it is a rule of thumb: the bytes that a case loads and stores, divided by the
share of the GPU that its launches keep busy. A launch keeps a multiprocessor busy by its resident threads, of which
half the possible number is taken to be enough, and leaves some idle at its end, in the last wave of programs. That
knows nothing of latencies, caches or instructions: it tells large mistakes, not the last tenth. A candidate that spills
registers or asks for more memory than there is loses.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import ceil, inf, log
from operator import itemgetter
from pathlib import Path
from statistics import fmean

import torch
from triton.errors import TritonError

from hzlm.kernels.gpu.blocks import find_entries, read_table, replace_entry
from hzlm.progress import Progress
from hzlm.tools.bench.kernels.case import Case
from hzlm.tools.bench.kernels.configurations import OPERATIONS, read_configurations
from hzlm.tools.bench.kernels.paper import Peak
from hzlm.tools.bench.kernels.paper_gpu import Launch, trace_launches
from hzlm.tools.bench.kernels.timing import Timer

ENOUGH = 0.5
"""Share of a multiprocessor's threads that hides the latency of the memory."""
MARGIN = 0.01
"""What the mean over all cases has to fall by, relatively, before an entry changes."""
MOST_WARPS, MOST_STAGES = 16, 4
SHARED = {"column_sums": {"layer_norm", "bias_relu_dropout"}}
"""Entries of the table that are of several operations."""
META = torch.device("meta")
Judge = Callable[[Case], float]
"""How bad a case is with the table as it stands."""


def neighbours(entry: dict[str, int]) -> Iterator[dict[str, int]]:
    """The entry itself, then every one that differs from it in one block size or in the warps or stages."""
    yield entry
    for name, value in entry.items():
        if name == "upto":
            continue
        for other in (value - 1, value + 1) if name == "num_stages" else (value // 2, value * 2):
            changed = entry | {name: other}
            fits = other > 0 and changed["num_warps"] <= MOST_WARPS and changed["num_stages"] <= MOST_STAGES
            # a program walks over its SPAN rows by ROWS
            if fits and changed.get("SPAN", inf) >= changed.get("ROWS", 0):
                yield changed


def judge_by_time(device: torch.device, timer: Timer) -> Judge:
    """Seconds on the GPU of this machine."""

    def judge(case: Case) -> float:
        return timer(partial(case.kernel, *case.inputs(device)))

    return judge


def judge_by_paper(peak: Peak) -> Judge:
    """Bytes over the share of the GPU that is busy, by the launches of a case and their threads."""

    def judge(case: Case) -> float:
        launches = trace_launches(peak.capability, partial(case.kernel, *case.inputs(META)))
        if any(launch.binary.stack for launch in launches):
            return inf
        threads = [launch.programs * launch.binary.threads for launch in launches]
        slowed = sum(count / busy_share(launch, peak) for launch, count in zip(launches, threads, strict=True))
        return case.cost.moved * slowed / sum(threads)

    return judge


def busy_share(launch: Launch, peak: Peak) -> float:
    """How much of the GPU a launch keeps busy while it runs, at most 1."""
    room = peak.multiprocessors * launch.binary.resident
    filled = launch.programs / (ceil(launch.programs / room) * room)
    return filled * min(1.0, launch.binary.occupancy / ENOUGH)


def tune(operations: Sequence[str], capability: int, judge: Judge) -> list[str]:
    """Puts the best entries into the table of this process; gives a line for each one that changes.

    Entries that no case uses stay as they are: those for float32 do, since the cases are of bf16.
    """
    table = read_table()
    keys = [key for key in table if not users_of(key).isdisjoint(operations)]
    changes = []
    with Progress(len(keys), "tuning", "kernels") as bar:
        for key in keys:
            own = table[key].setdefault(str(capability), list(find_entries(key, capability)))
            for number, entry in enumerate(own):
                tried = [(_try(key, capability, number, one, judge), one) for one in neighbours(entry)]
                (present, _), (least, best) = tried[0], min(tried, key=itemgetter(0))
                if least > present - MARGIN:
                    best = entry
                replace_entry(key, capability, number, best)
                if best != entry:
                    changes.append(f"{key} on {capability / 10:.1f}: {entry} -> {best}")
            bar.advance()
    return changes


def users_of(key: str) -> set[str]:
    """The operations whose kernels an entry of the table is for: attention_forward is attention's."""
    return SHARED.get(key) or {max((name for name in OPERATIONS if key.startswith(name)), key=len)}


def _try(key: str, capability: int, number: int, candidate: dict[str, int], judge: Judge) -> float:
    """The mean logarithm over all cases, so that small models count as much as large ones."""
    replace_entry(key, capability, number, candidate)
    try:
        return fmean(
            log(judge(case))
            for operation in users_of(key)
            for configuration in read_configurations(operation)
            for variant in (configuration, configuration.with_other_dropout())
            for case in variant.cases(operation)
        )
    except TritonError:
        return inf  # it cannot be compiled, or asks for too much


def write_table(path: Path) -> None:
    """Writes the table of this process, an entry a line."""
    lines = [
        f"  {json.dumps(key)}: {{\n"
        + ",\n".join(
            f'    "{capability}": [\n' + ",\n".join(f"      {json.dumps(entry)}" for entry in entries) + "\n    ]"
            for capability, entries in sorted(by_capability.items())
        )
        + "\n  }"
        for key, by_capability in sorted(read_table().items())
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
