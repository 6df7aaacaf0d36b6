"""Rates and utilisation: what is counted of a batch, and what takes no time."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.batches import BatchReader, StepBatch
from hzlm.data.blend import Blend
from hzlm.model.flops import count_flops
from hzlm.train import peak as peak_module
from hzlm.train.peak import Peak, find_peak
from hzlm.train.stopwatch import Stopwatch, work_of

Write = Callable[[Path, Sequence[str]], Path]


def read_step(folder: Path, model: ModelConfig, encoder_weight: float) -> tuple[RunConfig, Blend, StepBatch]:
    config = RunConfig.model_validate(
        {
            "model": model.model_dump(),
            "data": {"path": folder, "row_length": 24, "views": {"pinyin": 1.0, "masked": 1.0}},
            "loss": {"encoder_weight": encoder_weight},
            "schedule": {"scale": 1.0, "warmup_steps": 4},
            "train": {"output": folder / "run", "steps": 8, "micro_batch_rows": 4, "accumulation": 3},
        },
        strict=False,
    )
    blend = Blend.open(config.data, "train")
    return config, blend, next(BatchReader(blend, config.data, 1).steps(0, 4, 3))


@pytest.mark.parametrize("encoder_weight", [0.0, 0.5])
def test_work_is_that_of_the_sentences(
    tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig, encoder_weight: float
) -> None:
    folder = write_dataset(tmp_path, [*sentences, "我们" * 3])
    config, _, batch = read_step(folder, model_config, encoder_weight)
    lengths, encoder_targets, decoder_targets = [], 0, 0
    for part in batch.micro_batches:
        for row, segments in enumerate(part.segments.tolist()):
            lengths += [segments.count(number) for number in set(segments) - {0}]
            encoder_targets += sum(weight > 0 for weight in part.weights[0, row].tolist())
            decoder_targets += sum(weight > 0 for weight in part.weights[1, row].tolist())
    work = work_of(batch, config)
    assert work.positions == sum(lengths)
    assert work.pairs == sum(length**2 for length in lengths)
    assert work.decoder_targets == decoder_targets > 0
    assert work.encoder_targets == (encoder_targets if encoder_weight else 0)
    assert 0 < encoder_targets < decoder_targets


def test_utilisation_is_model_operations_by_time_and_peak(
    tmp_path: Path,
    write_dataset: Write,
    sentences: list[str],
    model_config: ModelConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, blend, batch = read_step(write_dataset(tmp_path, sentences), model_config, 0.5)
    clock = iter((100.0, 101.0, 104.0, 105.0, 105.0, 107.0, 107.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    watch = Stopwatch(config, blend.vocabulary.target_size, Peak(1e6, "the test"))
    watch.count(batch)
    with watch.stopped():  # from 101 to 104
        pass
    watch.count(batch)
    values = watch.read()  # at 105: two of five seconds count
    work = work_of(batch, config)
    flops = count_flops(config.model, blend.vocabulary.target_size, work).training
    assert values["train/tokens_per_second"] == pytest.approx(2 * work.positions / 2)
    assert values["train/model_flops_per_second"] == pytest.approx(2 * flops / 2)
    assert values["train/flop_utilisation"] == pytest.approx(2 * flops / 2 / 1e6)
    watch.count(batch)
    assert watch.read()["train/tokens_per_second"] == pytest.approx(work.positions / 2), "it started anew"


def test_counting_costs_next_to_nothing(
    tmp_path: Path, write_dataset: Write, sentences: list[str], model_config: ModelConfig
) -> None:
    config, _, batch = read_step(write_dataset(tmp_path, sentences), model_config, 0.5)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        work_of(batch, config)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.001


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cpu_is_measured(dtype: torch.dtype) -> None:
    state = torch.get_rng_state()
    start = time.perf_counter()
    peak = find_peak(torch.device("cpu"), dtype)
    assert time.perf_counter() - start < 10
    assert 1e8 < peak.flops_per_second < 1e14
    assert str(dtype).removeprefix("torch.") in peak.origin
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "bf16", "fp32"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12, 19.5e12),
        ("NVIDIA H100 80GB HBM3", 989e12, 67e12),
        ("NVIDIA H100 PCIe", 756e12, 51e12),
        ("NVIDIA H100 NVL", 835e12, 60e12),
        ("NVIDIA H200 NVL", 835e12, 60e12),
        ("NVIDIA H200", 989e12, 67e12),
    ],
)
def test_a_known_gpu_is_looked_up(name: str, bf16: float, fp32: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(peak_module, "measure_gemm", lambda device, dtype: Peak(1.0, "measured"))
    device = torch.device("cuda")
    assert find_peak(device, torch.bfloat16).flops_per_second == bf16
    assert find_peak(device, torch.float32).flops_per_second == fp32
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "another")
    assert find_peak(device, torch.bfloat16).origin == "measured"


def test_another_kind_of_device_is_measured_as_a_cpu() -> None:
    assert "1024 x 512 x 512" in find_peak(torch.device("meta"), torch.float32).origin
