"""The section `parallel` of a run: how many processes share its work, and how."""

import json
from collections.abc import Iterable
from math import gcd
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hzlm.errors import UserError
from hzlm.settings import Section, Size

WEEK = 7 * 24 * 60


class ParallelConfig(Section):
    """How a run is laid out over pipe x data x tensor processes. It decides speed and memory, not what is learned."""

    pipe: Size = 1
    """Pipeline-parallel processes: each holds some of the blocks."""
    data: Size = 1
    """Data-parallel processes: each reads rows of its own."""
    tensor: Size = 1
    """Tensor-parallel processes: each holds a part of every block; divides `heads` and `feed_forward_size`."""
    sequence_parallel: bool = False
    """Whether tensor-parallel processes also share the rows outside attention and feed-forward: saves memory."""
    stages: tuple[Size, ...] | None = None
    """Blocks of each pipeline stage, first to last, encoder before decoder; null: cut so that stages cost alike."""
    schedule: Literal["1f1b", "dualpipev"] = "1f1b"
    """Order of a pipeline's passes. "dualpipev" cuts two stages a process, which idles less and holds more."""
    recompute: Literal["none", "selective", "whole"] = "none"
    """What the backward pass computes again and need not be kept: nothing, attention weights, or whole blocks."""
    timeout_minutes: Annotated[float, Field(gt=0, le=WEEK)] = 10.0
    """How long a process waits for another one before all give up."""

    @property
    def processes(self) -> int:
        """How many processes the run needs."""
        return self.pipe * self.data * self.tensor

    @property
    def stage_count(self) -> int:
        """Stages that the blocks are cut into."""
        return self.pipe * self._stages_a_process

    @property
    def _stages_a_process(self) -> int:
        return 2 if self.schedule == "dualpipev" else 1

    @model_validator(mode="after")
    def _own_checks(self) -> "ParallelConfig":
        if self.sequence_parallel and self.tensor == 1:
            raise ValueError(
                "parallel.sequence_parallel = true needs a parallel.tensor of 2 or more; turn it off, or raise tensor"
            )
        if self.schedule == "dualpipev" and self.pipe == 1:
            raise ValueError(
                "parallel.schedule = dualpipev needs a parallel.pipe of 2 or more; make it 1f1b, or raise pipe"
            )
        if self.stages is not None and len(self.stages) != self.stage_count:
            raise ValueError(
                f"parallel.stages = {list(self.stages)} names {len(self.stages)} stages, but parallel.pipe = "
                f"{self.pipe} with schedule {self.schedule} has {self.stage_count}; give so many numbers, or null"
            )
        return self

    def check_model(self, heads: int, feed_forward_size: int, encoder_layers: int, decoder_layers: int) -> None:
        """Whether a model can be divided like this. Raises `ValueError`, saying what would fit."""
        for name, size in (("heads", heads), ("feed_forward_size", feed_forward_size)):
            if size % self.tensor:
                common = gcd(heads, feed_forward_size)
                fitting = _near(self.tensor, (number for number in range(1, common + 1) if common % number == 0))
                raise ValueError(
                    f"parallel.tensor = {self.tensor} does not divide model.{name} = {size}; {fitting} would fit"
                )
        blocks = encoder_layers + decoder_layers
        model = f"the model has {encoder_layers} + {decoder_layers} = {blocks} blocks"
        if self.stage_count > blocks:
            most = blocks // self._stages_a_process
            remedy = (
                "make the schedule 1f1b" if self.schedule == "dualpipev" and most == 1 else f"at most {most} would fit"
            )
            raise ValueError(
                f"parallel.pipe = {self.pipe} with schedule {self.schedule} has {self.stage_count} stages, "
                f"but {model}; {remedy}"
            )
        if self.stages is not None and sum(self.stages) != blocks:
            raise ValueError(
                f"parallel.stages = {list(self.stages)} holds {sum(self.stages)} blocks, but {model}; "
                "make the sum equal, or null"
            )

    def check_batch(self, micro_batch_rows: int, accumulation: int) -> None:
        """Whether the batches of a step can be divided like this. Raises `ValueError`, saying what would fit."""
        if self.sequence_parallel and micro_batch_rows % self.tensor:
            below = micro_batch_rows // self.tensor * self.tensor
            fitting = _near(micro_batch_rows, (rows for rows in (below, below + self.tensor) if rows))
            raise ValueError(
                f"train.micro_batch_rows = {micro_batch_rows} is no multiple of parallel.tensor = {self.tensor}, as "
                f"parallel.sequence_parallel needs it; {fitting} would fit"
            )
        if self.schedule == "dualpipev" and accumulation < self.stage_count:
            raise ValueError(
                f"train.accumulation = {accumulation} is too small for parallel.schedule = dualpipev, which needs "
                f"2 * parallel.pipe = {self.stage_count} or more"
            )


def _near(number: int, candidates: Iterable[int]) -> str:
    """The nearest of some numbers below `number` and the nearest above, as far as there are any: "2 or 4"."""
    known = set(candidates)
    below = [max((found for found in known if found < number), default=None)]
    above = [min((found for found in known if found > number), default=None)]
    return " or ".join(str(found) for found in below + above if found is not None)


def check_world(config: ParallelConfig, world: int) -> None:
    """Whether a run has as many processes as its layout needs.

    Args:
        config: the layout.
        world: processes that were started.

    Raises:
        UserError: it has not; names settings that fit the processes there are, with `tensor` and `pipe` kept
            as far as they divide them.
    """
    if config.processes == world:
        return
    tensor = gcd(config.tensor, world)
    pipe = gcd(config.pipe, world // tensor)
    fitting: dict[str, Any] = {
        "pipe": pipe,
        "data": world // (tensor * pipe),
        "tensor": tensor,
        "sequence_parallel": config.sequence_parallel and tensor > 1,
        "stages": config.stages if pipe == config.pipe else None,
        "schedule": config.schedule if pipe > 1 else "1f1b",
    }
    changes = [
        f"parallel.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in fitting.items()
        if value != getattr(config, name)
    ]
    raise UserError(
        f"parallel: pipe {config.pipe} x data {config.data} x tensor {config.tensor} = {config.processes} processes, "
        f"but {world} {'was' if world == 1 else 'were'} started; start {config.processes}, or set {' '.join(changes)}"
    )
