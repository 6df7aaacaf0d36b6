"""How long each case takes on the GPU of this machine, beside unfused torch operations and other people's kernels."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import torch
import triton.testing

from hzlm.errors import UserError
from hzlm.progress import Progress
from hzlm.table import format_table
from hzlm.tools.bench.kernels.case import Case
from hzlm.tools.bench.kernels.paper import H200, PEAKS, Peak

Timer = Callable[[Callable[[], object]], float]
"""Runs a function often enough and gives the seconds that it takes."""


@dataclass(frozen=True)
class Timed:
    """A case on a GPU, in seconds."""

    configuration: str
    case: Case
    kernel: float
    plain: float
    floor: float | None
    """What the GPU allows; None where little is known of it."""
    peers: Mapping[str, float] = field(default_factory=dict)
    """Other people's kernels for the same, by name, as far as they are installed."""


def time_median(run: Callable[[], object]) -> float:
    """The median of runs between CUDA events, after warming up, with an empty cache before each."""
    milliseconds: float = triton.testing.do_bench(run, return_mode="median")
    return milliseconds / 1e3


def find_gpu() -> torch.device:
    """The GPU. Raises `UserError` where there is none."""
    if not torch.cuda.is_available():
        raise UserError("no CUDA GPU here to time kernels on; --compile-only and --paper need none")
    return torch.device("cuda")


def time_cases(
    cases: Iterable[tuple[str, Case]], device: torch.device, peak: Peak | None, timer: Timer = time_median
) -> list[Timed]:
    """Times cases, each with the name of its configuration; those that do not fit into the memory are left out."""
    found = []
    with Progress(None, "timing", "cases") as bar:
        for configuration, case in cases:
            try:
                inputs = case.inputs(device)
                kernel = timer(partial(case.kernel, *inputs))
                plain = timer(partial(case.plain, *inputs))
                peers = {}
                for name, run in case.peers.items():
                    with suppress(ImportError):
                        peers[name] = timer(partial(run, *inputs))
            except torch.OutOfMemoryError:
                continue
            floor = None if peak is None else peak.floor(case.cost)
            found.append(Timed(configuration, case, kernel, plain, floor, peers))
            bar.advance()
    return found


def bench_times(cases: Iterable[tuple[str, Case]], timer: Timer = time_median) -> None:
    """Prints a table of times, and one JSON object as the last line.

    `vs_torch`: time of the unfused torch operations over that of the kernel, `floor_share`: the floor (`Peak.floor`)
    over it, both the median over the cases; `vs_PEER`: time of another kernel over that of ours, likewise.

    Raises:
        UserError: there is no GPU.
    """
    device = find_gpu()
    name = torch.cuda.get_device_name()
    peak = next((peak for peak in (*PEAKS, H200) if peak.name in name), None)
    timed = time_cases(cases, device, peak, timer)
    print(name)
    print(describe_times(timed))
    print(json.dumps(summarize(timed)))


def describe_times(timed: Sequence[Timed]) -> str:
    """A line a case."""
    names = list(dict.fromkeys(name for one in timed for name in one.peers))
    head = (
        "operation", "configuration", "shape", "pass", "us", "floor us", "reached", "torch us", "ratio",
        *(f"{name} us" for name in names),
    )  # fmt: skip
    rows = [
        (
            one.case.operation,
            one.configuration,
            one.case.shape,
            one.case.direction,
            f"{one.kernel * 1e6:,.1f}",
            "-" if one.floor is None else f"{one.floor * 1e6:,.1f}",
            "-" if one.floor is None else f"{one.floor / one.kernel:.0%}",
            f"{one.plain * 1e6:,.1f}",
            f"{one.plain / one.kernel:.2f}",
            *(f"{one.peers[name] * 1e6:,.1f}" if name in one.peers else "-" for name in names),
        )
        for one in timed
    ]
    return format_table(head, rows, names=4)


def summarize(timed: Sequence[Timed]) -> dict[str, float]:
    """The figures of the last line."""
    ratios: dict[str, list[float]] = {"vs_torch": [one.plain / one.kernel for one in timed]}
    for one in timed:
        if one.floor is not None:
            ratios.setdefault("floor_share", []).append(one.floor / one.kernel)
        for name, seconds in one.peers.items():
            ratios.setdefault(f"vs_{name}", []).append(seconds / one.kernel)
    return {"cases": len(timed)} | {name: round(median(values), 3) for name, values in ratios.items()}
