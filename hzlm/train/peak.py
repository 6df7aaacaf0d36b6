"""The peak rate of the device: what the utilisation of a run is a share of."""

import time
from dataclasses import dataclass

import torch

PUBLISHED = {
    "NVIDIA A100": (312e12, 19.5e12),
    "NVIDIA A800": (312e12, 19.5e12),
    "NVIDIA H100 PCIe": (756e12, 51e12),
    "NVIDIA H100 NVL": (835e12, 60e12),
    "NVIDIA H100": (989e12, 67e12),
    "NVIDIA H800": (989e12, 67e12),
    "NVIDIA H200 NVL": (835e12, 60e12),
    "NVIDIA H200": (989e12, 67e12),
}
"""Start of a GPU's name -> dense FLOP/s in bf16 and in fp32 (without TF32) from its data sheet; the first fit holds."""

GEMM_SHAPES = {"cpu": (1024, 512, 512), "cuda": (8192, 8192, 8192)}
"""[a, b] x [b, c] of the measured product: on CPUs done in milliseconds, so that some runs are not interrupted."""
MEASURED_SECONDS = 0.3


@dataclass(frozen=True)
class Peak:
    """Floating-point operations a second, and where the figure comes from."""

    flops_per_second: float
    origin: str


def find_peak(device: torch.device, dtype: torch.dtype) -> Peak:
    """The published peak of a GPU in the table; of anything else the rate of a matrix product, measured in 0.5 s."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for start, (bf16, fp32) in PUBLISHED.items():
            if name.startswith(start):
                return Peak(bf16 if dtype == torch.bfloat16 else fp32, f"data sheet of {start}")
    return measure_gemm(device, dtype)


def measure_gemm(device: torch.device, dtype: torch.dtype) -> Peak:
    """The best rate of one matrix product of this process, with the threads that it uses."""
    a, b, c = GEMM_SHAPES.get(device.type, GEMM_SHAPES["cpu"])
    # neither random numbers, which would move the generator, nor zeros, which some hardware multiplies faster
    left = torch.linspace(-1.0, 1.0, a * b, device=device).view(a, b).to(dtype)
    right = torch.linspace(1.0, -1.0, b * c, device=device).view(b, c).to(dtype)
    best = float("inf")
    end = time.perf_counter() + MEASURED_SECONDS
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    origin = f"best matrix product of {a} x {b} x {c}, {str(dtype).removeprefix('torch.')}, measured at the start"
    return Peak(2 * a * b * c / best, origin)
