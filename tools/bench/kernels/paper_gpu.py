"""Compiles Triton kernels for a GPU that is not there, from the launches that the product itself makes.

A Triton driver of ours stands in for NVIDIA's: it names the GPU, and where a kernel would be loaded and launched it
keeps the machine code. So an operation that runs on tensors without memory (device "meta") leaves behind just the
kernels, with just the specialisations, that it would launch on that GPU.
"""

import hashlib
import math
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
WARP = 32


@dataclass(frozen=True)
class Limits:
    """What a multiprocessor has (CUDA programming guide, table of compute capabilities)."""

    threads: int
    blocks: int
    registers: int
    shared: int
    """Bytes for all blocks together; each takes 1,024 more than it asks for."""
    block_shared: int
    """Bytes that one block may ask for."""


LIMITS = {
    80: Limits(2048, 32, 65536, 164 * 1024, 163 * 1024),
    90: Limits(2048, 32, 65536, 228 * 1024, 227 * 1024),
}


@dataclass(frozen=True)
class Binary:
    """What a compiled kernel takes."""

    name: str
    """File, function, and dtype of the first tensor: "attention.forward bf16"."""
    constants: str
    """What it is compiled for: "HEAD=64 CAUSAL BLOCK=64"; `dropout` where there is a threshold."""
    capability: int
    registers: int
    """Of a thread."""
    stack: int
    """Bytes of a thread; what is not 0 are registers spilt to memory."""
    shared: int
    """Bytes of a block."""
    threads: int
    """Of a block."""
    tensor_core: int
    """Matrix instructions in the PTX: mma, or wgmma of capability 9.0. ptxas makes one of its own of each."""
    digest: str
    """Of the machine code."""

    @property
    def resident(self) -> int:
        """Blocks that a multiprocessor has room for."""
        limits = LIMITS[self.capability]
        warps = self.threads // WARP
        # registers are handed out to warps by 256
        of_warp = -(-self.registers * WARP // 256) * 256
        return min(
            limits.blocks,
            limits.threads // self.threads,
            limits.registers // (of_warp * warps),
            limits.shared // (self.shared + 1024),
        )

    @property
    def occupancy(self) -> float:
        """Share of a multiprocessor's threads that can be resident."""
        return self.resident * self.threads / LIMITS[self.capability].threads


class Launch(NamedTuple):
    """What would have run on the GPU."""

    binary: Binary
    programs: int


@dataclass(eq=False)
class _Loaded:
    name: str
    constants: str
    threads: int
    shared: int
    ptx: str
    cubin: bytes


@dataclass
class PaperDriver:
    """The part of a Triton driver that launching uses."""

    capability: int
    launches: list[tuple[_Loaded, int]] = field(default_factory=list)
    """What was launched, and in how many programs."""

    @property
    def utils(self) -> "PaperDriver":
        """Triton loads machine code and asks for properties through this."""
        return self

    def get_current_target(self) -> GPUTarget:
        """The GPU to compile for."""
        return GPUTarget("cuda", self.capability, WARP)

    def get_current_device(self) -> int:
        """Triton caches kernels by device: each capability is one of its own."""
        return self.capability

    def get_current_stream(self, device: int) -> int:
        """There is one."""
        return 0

    def get_device_properties(self, device: int) -> dict[str, int]:
        """What Triton checks before it loads a kernel."""
        return {"max_shared_mem": LIMITS[self.capability].block_shared}

    def get_active_torch_device(self) -> torch.device:
        """Where the tensors are."""
        return torch.device("meta")

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """Made once for each kernel, before it is loaded: what is called in place of a launch."""
        file = source.fn.__module__.rpartition(".")[2]
        dtype = next(kind[1:] for kind in source.signature.values() if kind.startswith("*"))
        name = f"{file}.{metadata.name.lstrip('_')} {dtype}"
        compiled, *_ = source.fn.device_caches[self.capability]
        code = next(kernel.asm for kernel in compiled.values() if kernel.metadata is metadata)
        threads = metadata.num_warps * WARP
        loaded = _Loaded(name, _spell_constants(source), threads, metadata.shared, code["ptx"], code["cubin"])

        def launch(*arguments: Any) -> None:
            # the first three are the grid
            self.launches.append((loaded, math.prod(arguments[:3])))

        return launch

    def load_binary(self, name: str, cubin: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """Module, function, registers, spills and the most threads, as Triton asks."""
        return 0, 0, 0, 0, 1024


def _spell_constants(source: Any) -> str:
    """The compile-time arguments of a kernel, as `Binary.constants` has them."""
    values = {source.fn.params[at[0]].name: value for at, value in source.constants.items()}
    spelt = []
    for parameter in source.fn.params:
        value = values.get(parameter.name)
        if not parameter.is_constexpr or parameter.name == "SCALE" or value is False:
            continue
        if parameter.name == "THRESHOLD":
            spelt += ["dropout"] if value else []
        else:
            spelt.append(parameter.name if value is True else f"{parameter.name}={value}")
    return " ".join(spelt)


@cache
def _stand_in(capability: int) -> PaperDriver:
    """One for the life of the process: Triton keeps what it has compiled, and launches it through its first driver."""
    return PaperDriver(capability)


@contextmanager
def paper_gpu(capability: int) -> Iterator[PaperDriver]:
    """Inside, Triton compiles for this GPU and launches nothing."""
    before = driver._active
    stand_in = _stand_in(capability)
    stand_in.launches = []
    driver.set_active(stand_in)
    try:
        yield stand_in
    finally:
        driver._active = before


def trace_launches(capability: int, run: Callable[[], object]) -> list[Launch]:
    """The kernels that `run` launches on tensors of device "meta", in order."""
    with paper_gpu(capability) as stand_in:
        run()
        return [Launch(_measure(loaded, capability), programs) for loaded, programs in stand_in.launches]


def compile_launches(capability: int, run: Callable[[], object]) -> list[Binary]:
    """The kernels that `run` launches on tensors of device "meta", in order, each once."""
    return list(dict.fromkeys(launch.binary for launch in trace_launches(capability, run)))


@cache
def _measure(loaded: _Loaded, capability: int) -> Binary:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(loaded.cubin)
        file.flush()
        command = [str(CUOBJDUMP), "-res-usage", file.name]
        usage = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {name: int(number) for name, number in re.findall(r"\b(REG|STACK):(\d+)", usage)}
    return Binary(
        loaded.name,
        loaded.constants,
        capability,
        found["REG"],
        found["STACK"],
        loaded.shared,
        loaded.threads,
        len(re.findall(r"\b(?:mma\.sync|wgmma\.mma_async)\.", loaded.ptx)),
        hashlib.sha256(loaded.cubin).hexdigest()[:16],
    )
