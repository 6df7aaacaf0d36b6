"""Timing, but for the timer: cases, peers, what does not fit, and the last line."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hzlm.errors import UserError
from hzlm.tools.bench.kernels import timing
from hzlm.tools.bench.kernels.case import Case, Cost
from hzlm.tools.bench.kernels.paper import PEAKS
from hzlm.tools.bench.kernels.timing import Timed, bench_times, describe_times, find_gpu, summarize, time_cases

CPU = torch.device("cpu")
COST = Cost(3_000_000, 1_000_000, 2_000_000)


def make(**peers: Callable[..., Any]) -> Case:
    def inputs(device: torch.device) -> tuple[Tensor]:
        return (torch.arange(3, device=device),)

    return Case("sums", "3", "forward", inputs, lambda x: (4, x), lambda x: (8, x), COST, 8_000_000, peers)


def fake(run: Callable[[], Any]) -> float:
    """What a function returns first, in microseconds; it gets the inputs."""
    microseconds, x = run()
    assert x.tolist() == [0, 1, 2]
    return float(microseconds) * 1e-6


def missing(x: Tensor) -> None:
    raise ModuleNotFoundError("no such kernels")


def exhaust(device: torch.device) -> tuple[Any, ...]:
    raise torch.OutOfMemoryError


def test_every_case_is_timed_with_the_peers_that_are_installed() -> None:
    too_large = Case("sums", "3000", "forward", exhaust, torch.add, torch.add, COST, 1)
    cases = [("xl", too_large), ("base", make(peer=lambda x: (6, x), other=missing))]
    (timed,) = time_cases(cases, CPU, PEAKS[0], fake)
    assert (timed.configuration, timed.kernel, timed.plain, timed.floor) == ("base", 4e-6, 8e-6, 1e-6)
    assert timed.peers == {"peer": 6e-6}
    assert summarize([timed]) == {"cases": 1, "vs_torch": 2.0, "floor_share": 0.25, "vs_peer": 1.5}


def test_a_line_a_case() -> None:
    with_peer, without = Timed("base", make(), 4e-6, 8e-6, 1e-6, {"peer": 6e-6}), Timed("xl", make(), 4e-6, 8e-6, None)
    head, line, other = describe_times([with_peer, without]).splitlines()
    assert head.split()[-2:] == ["peer", "us"]
    assert line.split() == ["sums", "base", "3", "forward", "4.0", "1.0", "25%", "8.0", "2.00", "6.0"]
    assert other.split() == ["sums", "xl", "3", "forward", "4.0", "-", "-", "8.0", "2.00", "-"]


def test_the_last_line_is_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(timing, "find_gpu", lambda: CPU)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    bench_times([("base", make())], fake)
    name, *_, last = capsys.readouterr().out.splitlines()
    assert "H100" in name
    assert json.loads(last) == {"cases": 1, "vs_torch": 2.0, "floor_share": 0.149}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_there_is_nothing_to_time() -> None:
    with pytest.raises(UserError, match="no CUDA GPU here"):
        find_gpu()
