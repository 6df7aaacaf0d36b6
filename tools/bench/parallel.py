"""`hzlm bench parallel`: what layouts send and hold beside what the formulas say, and how two processes scale."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from hzlm.config import RunConfig
from hzlm.data.batches import BatchReader, MicroBatch
from hzlm.data.blend import Blend
from hzlm.launch.processes import run_ranks
from hzlm.parallel.collectives import gather_objects
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import sharding_of
from hzlm.table import format_table
from hzlm.tools.bench.census import OTHER, MemoryCensus, TrafficCensus
from hzlm.tools.plan.channels import Channel, Volume
from hzlm.tools.plan.memory import step_memory
from hzlm.tools.plan.traffic import Holding, Place, step_traffic
from hzlm.train.engine import Engine
from hzlm.train.ranks import connect

RATE = 0.001
WARM_UP = 2
"""Steps before the one that is counted: the first ones also exchange shapes and make buffers."""
TIMED = 2
"""Steps of a round."""

SMALL = {"hidden_size": 64, "heads": 4, "feed_forward_size": 256, "encoder_layers": 2, "decoder_layers": 2}
CASES: tuple[dict[str, Any], ...] = (
    {},
    {"precision": "bf16", "rows": 64},
    {"pipe": 2},
    {"pipe": 3, "accumulation": 6, "precision": "bf16"},
    {"pipe": 4},
    {"data": 2},
    {"data": 4},
    {"tensor": 2},
    {"tensor": 4},
    {"tensor": 2, "recompute": "selective", "precision": "bf16"},
    {"tensor": 2, "sequence_parallel": True},
    {"tensor": 2, "sequence_parallel": True, "recompute": "whole"},
    {"tensor": 4, "sequence_parallel": True},
    {"pipe": 2, "data": 2, "optimizer": "adamw"},
    {"pipe": 2, "tensor": 2},
    {"pipe": 2, "tensor": 2, "sequence_parallel": True, "recompute": "whole"},
    {"data": 2, "tensor": 2},
    {"data": 2, "tensor": 2, "sequence_parallel": True},
    {"pipe": 2, "data": 2, "tensor": 2},
    {"pipe": 2, "data": 2, "tensor": 2, "sequence_parallel": True},
    {"pipe": 2, "schedule": "dualpipev"},
)
"""Layouts and settings that are measured; what is not said is 1, none, fp32, LAMB, 32 rows, 4 micro-batches."""


@dataclass(frozen=True)
class Measured:
    """One rank's step."""

    sent: Mapping[Channel, Volume]
    sent_by_formula: Mapping[Channel, Volume]
    held: Mapping[str, int]
    """Bytes: of weights, gradients and states when each was most; of the others, and of all, when all was most."""
    held_by_formula: Mapping[str, int] | None
    """None where there is no formula."""

    @property
    def bytes_ratio(self) -> float:
        """Measured over formula of the channel where they differ most; 1 where calls and bytes are equal in all."""
        ratios = [1.0]
        for channel in self.sent.keys() | self.sent_by_formula.keys():
            ours, theirs = (volumes.get(channel, Volume(0, 0)) for volumes in (self.sent, self.sent_by_formula))
            if ours != theirs:
                # 0 where calls alone differ, or where one of the two knows nothing of the channel
                comparable = theirs.payload and ours.payload != theirs.payload
                ratios.append(ours.payload / theirs.payload if comparable else 0.0)
        return _farthest(ratios)

    @property
    def memory_ratio(self) -> float | None:
        """Measured over formula of the kind where they differ most."""
        if self.held_by_formula is None:
            return None
        return _farthest([self.held[kind] / formula for kind, formula in self.held_by_formula.items()])


def bench_parallel(data: Path, cases: Sequence[Mapping[str, Any]] = CASES, rounds: int = 12) -> None:
    """Measures every case, and the speed of one and two processes; prints two tables and a JSON object.

    `bytes_vs_formula`: bytes that a rank communicates over those of the formula (`hzlm.tools.plan.traffic`), of the
    channel of all cases where they differ most; 1 means that every call and every byte is as the formula says.
    `memory_vs_formula`: live tensor storage of a rank, by kind and at its peak, over the formula's
    (`hzlm.tools.plan.memory`), where they differ most. `scaling_2`: positions a second of two data-parallel processes
    over those of one, each with one thread, in bf16.

    Args:
        data: a dataset folder, of sentences of at most 32 characters.
        cases: what is measured.
        rounds: that are timed; one more warms up.
    """
    measured = {_name(case): run_ranks(measure_rank, count_ranks(case), make_config(data, case)) for case in cases}
    print(_describe(measured))
    rates = {ranks: run_ranks(_time, ranks, _timed_config(data, ranks), rounds)[0] for ranks in (1, 2)}
    print(f"\n{rates[1]:,.0f} positions/s in one process of one thread, {rates[2]:,.0f} in two (data-parallel, bf16)")
    outcomes = [one for ranks in measured.values() for one in ranks]
    memory = [ratio for one in outcomes if (ratio := one.memory_ratio) is not None]
    found = {
        "bytes_vs_formula": round(_farthest([one.bytes_ratio for one in outcomes]), 4),
        "memory_vs_formula": round(_farthest(memory), 3),
        "scaling_2": round(rates[2] / rates[1], 3),
    }
    print(json.dumps(found))


def _farthest(ratios: Sequence[float]) -> float:
    """The ratio that is farthest from 1."""
    return max(ratios, key=lambda ratio: abs(ratio - 1))


def count_ranks(case: Mapping[str, Any]) -> int:
    """Processes of a case."""
    return int(case.get("pipe", 1) * case.get("data", 1) * case.get("tensor", 1))


def _name(case: Mapping[str, Any]) -> str:
    layout = "x".join(str(case.get(axis, 1)) for axis in ("pipe", "data", "tensor"))
    extras = [str(value) for key, value in case.items() if key in ("precision", "schedule", "optimizer")]
    extras += [f"recompute {case['recompute']}"] if "recompute" in case else []
    return " ".join([layout, *(["+rows"] if case.get("sequence_parallel") else []), *extras])


def make_config(data: Path, case: Mapping[str, Any]) -> RunConfig:
    """The run that a case is measured in."""
    parallel = ("pipe", "data", "tensor", "sequence_parallel", "recompute", "schedule")
    fields: dict[str, Any] = {
        "model": {**SMALL, "max_length": 32, "dropout": case.get("dropout", 0.0)},
        "data": {"path": data, "row_length": 32, "views": {"masked": 1.0, "pinyin": 1.0}},
        "loss": {"encoder_weight": 0.5, "label_smoothing": 0.1},
        "optimizer": {"name": case.get("optimizer", "lamb")},
        "schedule": {"scale": 1.0, "warmup_steps": 10},
        "train": {
            **{"output": "unused", "steps": 1, "micro_batch_rows": case.get("rows", 32)},
            **{"accumulation": case.get("accumulation", 4), "precision": case.get("precision", "fp32")},
        },
        "parallel": {key: case[key] for key in parallel if key in case},
    }
    return RunConfig.model_validate(fields, strict=False)


def _timed_config(data: Path, ranks: int) -> RunConfig:
    case = {"data": ranks, "precision": "bf16", "rows": 32}
    config = make_config(data, case)
    model = config.model.model_copy(update={"hidden_size": 256, "feed_forward_size": 1024, "encoder_layers": 4})
    return config.model_copy(update={"model": model})


def measure_rank(config: RunConfig) -> Measured:
    """One rank of a case: a step whose communication is counted, and one whose memory is."""
    mesh = connect(config.parallel)
    blend = Blend.open(config.data, "train")
    steps = BatchReader(blend, config.data, 1, mesh).steps(0, config.train.micro_batch_rows, config.train.accumulation)
    engine = Engine(config, blend.vocabulary, mesh)
    for step in range(1, WARM_UP + 1):
        engine.train_step(next(steps).micro_batches, step, RATE)
    with TrafficCensus() as traffic:
        batches = next(steps).micro_batches
        engine.train_step(batches, WARM_UP + 1, RATE)
    states = list(engine.parameters.values())
    known: dict[str, list[Tensor]] = {
        "weights": [state.weight for state in states],
        "states": [flat for state in states for flat in (state.masters, state.exp_avg, state.exp_avg_sq)],
    }
    with MemoryCensus(known, known["weights"]) as census:
        engine.train_step(batches, WARM_UP + 2, RATE)
        memory = census.memory()
    place, holding, targets = Place.of(mesh), _holding(engine, mesh), [_targets(batch) for batch in batches]
    vocabulary = (blend.vocabulary.size, blend.vocabulary.target_size)
    most = {side: max(counts[side] for counts in targets) for side in targets[0]}
    by_formula = None
    if config.parallel.schedule != "dualpipev":
        footprint = step_memory(config, place, holding, vocabulary, most)
        by_formula = {
            "weights": footprint.weights,
            "gradients": footprint.weights,  # one for each weight, once there are all
            "states": footprint.states,
            "others": footprint.activations + footprint.passing,
            "peak": footprint.peak,
        }
    held = {kind: memory.largest[kind] for kind in ("weights", "gradients", "states")}
    return Measured(
        {channel: volume for channel, volume in traffic.traffic().items() if len(channel.ranks) > 1},
        step_traffic(config, place, holding, targets),
        {**held, "others": memory.at_peak[OTHER], "peak": memory.peak},
        by_formula,
    )


def _holding(engine: Engine, mesh: Mesh) -> Holding:
    weights = {name: state.weight for name, state in engine.parameters.items()}
    table = weights.get("tokens.weight")
    return Holding(
        engine.layers,
        [[weight.numel() for weight in weights.values() if (weight.dim() < 2) == vectors] for vectors in (False, True)],
        [weight.numel() for weight in weights.values() if sharding_of(weight) is None],
        0 if table is None else table.numel(),
        len(set().union(*gather_objects(list(weights), mesh.world))),
    )


def _targets(batch: MicroBatch) -> dict[str, int]:
    encoder, decoder = (batch.weights > 0).sum(dim=(1, 2)).tolist()
    return {"encoder": encoder, "decoder": decoder}


def _time(config: RunConfig, rounds: int) -> float:
    """Positions a second, all ranks together: the median of some rounds."""
    torch.set_num_threads(1)
    mesh = connect(config.parallel)
    blend = Blend.open(config.data, "train")
    steps = BatchReader(blend, config.data, 1, mesh).steps(0, config.train.micro_batch_rows, config.train.accumulation)
    engine = Engine(config, blend.vocabulary, mesh)
    rates = []
    for round_number in range(rounds + 1):
        batches = [next(steps) for _ in range(TIMED)]
        start = time.perf_counter()
        for number, batch in enumerate(batches):
            engine.train_step(batch.micro_batches, round_number * TIMED + number + 1, RATE)
        rates.append(sum(batch.counts.positions for batch in batches) / (time.perf_counter() - start))
    return median(rates[1:])


def _describe(measured: Mapping[str, Sequence[Measured]]) -> str:
    kinds = ("weights", "gradients", "states", "others", "peak")
    head = ("pipe x data x tensor", "rank", "sent KB", "formula", *(f"{kind} MB" for kind in kinds), "formula")
    rows = []
    for name, ranks in measured.items():
        for rank, one in enumerate(ranks):
            sent = sum(channel.wire(volume.payload) for channel, volume in one.sent.items())
            memory = one.memory_ratio
            rows.append(
                (
                    name if rank == 0 else "",
                    str(rank),
                    f"{sent / 1e3:,.1f}",
                    "equal" if one.sent == one.sent_by_formula else f"x {one.bytes_ratio:.3f}",
                    *(f"{one.held[kind] / 1e6:.1f}" for kind in kinds),
                    "-" if memory is None else f"x {memory:.3f}",
                )
            )
    return format_table(head, rows)
