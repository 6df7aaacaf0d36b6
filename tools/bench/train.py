"""`hzlm bench train`: how fast training on this CPU is, beside a plain loop and beside Hugging Face."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

import torch
from deepspeed.accelerator import get_accelerator

from hzlm.config import RunConfig
from hzlm.data.batches import BatchReader, StepBatch
from hzlm.data.blend import Blend
from hzlm.data.sampling import RowOrder
from hzlm.errors import UserError
from hzlm.launch.environment import keep_freed_memory
from hzlm.model.flops import Work, count_flops
from hzlm.progress import Progress
from hzlm.table import format_table
from hzlm.tools.bench.buckets import PaddedBatch, TwinLoop, pad_in_buckets
from hzlm.tools.bench.plain import PlainLoop, Seconds
from hzlm.tools.twin import make_twin
from hzlm.train.engine import Engine
from hzlm.train.peak import measure_gemm
from hzlm.train.ranks import connect
from hzlm.train.stopwatch import work_of
from hzlm.vocabulary import Vocabulary

LEARNING_RATE = 1e-3
POOL_STEPS = 64
"""Steps whose sentences are sorted by length together for the twin: enough for buckets with little padding."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Round:
    """One turn of everything, in steps of about the same number of positions: seconds a step, or rates."""

    data: float
    engine: float
    plain: Seconds
    real_positions: float
    """Positions a step of ours that hold a character."""
    twin: float
    """Positions a second of the twin in autocast."""
    narrow_twin: float
    """Positions a second of the twin with bf16 weights."""
    gemm: float
    """FLOP a second of a matrix product in bf16."""

    @property
    def rate(self) -> float:
        """Positions a second of ours, reading the data included."""
        return self.real_positions / (self.data + self.engine)


def bench_train(config: RunConfig, rounds: int = 6, steps: int = 4) -> None:
    """Measures in turns and prints a table, and one JSON object as the last line.

    `vs_hf`: positions a second over those of Blenderbot of the same size in bf16 autocast with fused AdamW on the same
    text, padded in length buckets (its batches are made beforehand, ours are counted). `gemm_share`: operations
    of the model (`hzlm.model.flops`) a second over the rate of a bf16 matrix product measured in the same turns.
    `engine_overhead`: what a step of the engine takes longer than a plain loop of the same model, as a share of it.
    `tokens_per_s`: positions with a character, a second. All are medians over the turns.

    Args:
        config: what is trained: model, data, rows of a step; of the loss and the optimizer only what both loops have.
        rounds: turns that count; one more warms up.
        steps: of each system in a turn.

    Raises:
        UserError: the config asks for what is not compared here, or the machine has a GPU that DeepSpeed would take.
    """
    _check(config)
    keep_freed_memory()
    blend = Blend.open(config.data, "train")
    (dataset,) = blend.datasets
    plan = config.train
    rows = max(POOL_STEPS, (rounds + 1) * steps) * plan.micro_batch_rows
    padded = pad_in_buckets(dataset, _samples(blend, config, rows), plan.micro_batch_rows * config.data.row_length)
    contestants = _Contestants(config, blend.vocabulary)
    reader = BatchReader(blend, config.data, plan.seed).steps(0, plan.micro_batch_rows, 1)
    found = []
    work = Work()
    with Progress(rounds + 1, "benchmark", "rounds") as bar:
        for number in range(rounds + 1):
            start = time.perf_counter()
            ours = [next(reader) for _ in range(steps)]
            data_seconds = (time.perf_counter() - start) / steps
            theirs = [padded[(number * steps + i) % len(padded)] for i in range(steps)]
            result = contestants.take_turns(ours, theirs, data_seconds)
            if number > 0:  # the first turn warms up
                found.append(result)
                work += sum((work_of(batch, config) for batch in ours), Work())
            bar.advance()
    flops = count_flops(config.model, blend.vocabulary.target_size, work).training / work.positions
    real = sum(batch.real_positions for batch in padded) / sum(batch.mask.numel() for batch in padded)
    print(_describe(found, flops, config, real))
    print(_summary(found, flops))


class _Contestants:
    """Everything that is measured, built once."""

    def __init__(self, config: RunConfig, vocabulary: Vocabulary) -> None:
        self._engine = Engine(config, vocabulary, connect(config.parallel))
        self._plain = PlainLoop(config, vocabulary)
        clipping = config.optimizer.gradient_clipping
        self._twins = [
            TwinLoop(make_twin(config.model, vocabulary.size), clipping, autocast) for autocast in (True, False)
        ]
        self._step = 0

    def take_turns(self, ours: Sequence[StepBatch], theirs: Sequence[PaddedBatch], data: float) -> Round:
        """One after the other, each its steps in a row, as training makes them."""
        engine = []
        for our in ours:
            self._step += 1
            start = time.perf_counter()
            self._engine.train_step(our.micro_batches, self._step, LEARNING_RATE)
            engine.append(time.perf_counter() - start)
        plain = [self._plain.step(our.micro_batches[0], LEARNING_RATE) for our in ours]
        twins = [[their.real_positions / loop.step(their) for their in theirs] for loop in self._twins]
        parts = [(part.forward, part.backward, part.optimizer) for part in plain]
        real = sum(part.real_positions for batch in ours for part in batch.micro_batches) / len(ours)
        gemm = measure_gemm(CPU, torch.bfloat16).flops_per_second
        seconds = Seconds(*(median(column) for column in zip(*parts, strict=True)))
        return Round(data, median(engine), seconds, real, median(twins[0]), median(twins[1]), gemm)


def _check(config: RunConfig) -> None:
    if config.train.precision != "bf16":
        raise UserError(f"train.precision is {config.train.precision}, but what is compared is bf16; set it")
    if config.data.views.keys() != {"pinyin"}:
        raise UserError(f"data.views are {', '.join(config.data.views)}, but what is compared is pinyin; set it")
    if len(config.data.path) > 1:
        raise UserError(f"data.path names {len(config.data.path)} datasets, but what is compared reads one; name one")
    if config.train.accumulation > 1:
        raise UserError(f"train.accumulation is {config.train.accumulation}, but what is compared is 1; set it")
    if get_accelerator().device_name() != "cpu":
        raise UserError("this benchmark is of CPUs, and DeepSpeed finds a GPU here; hide it: DS_ACCELERATOR=cpu")


def _samples(blend: Blend, config: RunConfig, rows: int) -> list[int]:
    """The sentences of the first rows that the reader gives."""
    order = RowOrder(blend, config.data.row_length, config.train.seed).rows(cursor=0)
    return [sample for samples, _ in islice(order, rows) for sample in samples.records.tolist()]


def _describe(found: Sequence[Round], flops: float, config: RunConfig, real: float) -> str:
    def of(values: Sequence[float], unit: str, scale: float = 1.0, digits: int = 0) -> tuple[str, str, str]:
        low, high = min(values) * scale, max(values) * scale
        return f"{median(values) * scale:,.{digits}f}", f"{low:,.{digits}f} - {high:,.{digits}f}", unit

    parts = {
        "data": [turn.data for turn in found],
        "forward": [turn.plain.forward for turn in found],
        "backward": [turn.plain.backward for turn in found],
        "optimizer": [turn.plain.optimizer for turn in found],
        "engine": [turn.engine - turn.plain.step for turn in found],
    }
    rows = [
        *((f"a step: {name}", *of(seconds, "ms", 1e3, 1)) for name, seconds in parts.items()),
        ("a step: all", *of([turn.data + turn.engine for turn in found], "ms", 1e3, 1)),
        ("hzlm", *of([turn.rate for turn in found], "positions/s")),
        ("Blenderbot, bf16 autocast", *of([turn.twin for turn in found], "positions/s")),
        ("Blenderbot, bf16 weights", *of([turn.narrow_twin for turn in found], "positions/s")),
        ("hzlm, operations of the model", *of([turn.rate * flops for turn in found], "GFLOP/s", 1e-9)),
        ("matrix product, bf16", *of([turn.gemm for turn in found], "GFLOP/s", 1e-9)),
    ]
    rows_a_step = f"{config.train.micro_batch_rows} rows of {config.data.row_length} a step"
    shape = f"{rows_a_step}, {torch.get_num_threads()} threads, "
    padding = f"{real:.1%} of the twin's positions hold a character, {flops / 1e6:.1f} MFLOP a position"
    return format_table(("", "median", "range", "unit"), rows) + f"\n{shape}{len(found)} turns; {padding}"


def _summary(found: Sequence[Round], flops: float) -> str:
    return json.dumps(
        {
            "vs_hf": round(median(turn.rate / turn.twin for turn in found), 3),
            "vs_hf_bf16_weights": round(median(turn.rate / turn.narrow_twin for turn in found), 3),
            "gemm_share": float(f"{median(turn.rate * flops / turn.gemm for turn in found):.3g}"),
            "engine_overhead": round(median(turn.engine / turn.plain.step - 1 for turn in found), 4),
            "tokens_per_s": round(median(turn.rate for turn in found), 1),
        }
    )
