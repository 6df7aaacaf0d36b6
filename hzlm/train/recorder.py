"""What a run tells while it trains: metrics, history, and progress on the screen. Its first rank alone does."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hzlm.config import TrainConfig
from hzlm.errors import UserError
from hzlm.parallel.mesh import Mesh
from hzlm.progress import Progress
from hzlm.train.agreement import on_first_rank
from hzlm.train.monitor import Monitor
from hzlm.train.records import History

OnCheckpoint = Callable[[Path], Mapping[str, str]]


class Recorder:
    """A context manager around the training loop. All but `count` and `tell_reason` are collective calls of all ranks:
    where the first one cannot write, all raise."""

    def __init__(self, config: TrainConfig, step: int, mesh: Mesh, **facts: Any) -> None:
        """step: steps made so far. facts: values for JSON that the history shall tell of this start."""
        self._tells = mesh.world.index == 0
        self._world = mesh.world
        if self._tells:
            self._history = History(config.output, step, **facts)
            self._progress = Progress(config.steps, f"training {config.output.name}", "steps", initial=step)
        self._config = config
        self._first_step = step + 1
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        on_first_rank(self._begin, self._world)
        return self

    def _begin(self) -> None:
        with ExitStack() as stack:  # so that the history also tells the end of a run whose metrics cannot be opened
            stack.enter_context(self._history)
            self._monitor = stack.enter_context(Monitor(self._config.output, self._first_step))
            stack.enter_context(self._progress)
            self._stack = stack.pop_all()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def count(self, step: int, loss: float) -> None:
        """One more step was made."""
        if self._tells:
            self._history.step = step
            self._progress.advance(1, note=f"loss {loss:.3f}")

    def tell_reason(self, reason: str) -> None:
        """Why the run is about to end, where nothing but that ends it."""
        if self._tells:
            self._history.reason = reason

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A line of metrics, if there are any. What is not finite, as in a step that fp16 skips, JSON cannot hold."""
        if values:
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            on_first_rank(lambda: self._monitor.write(step, finite), self._world)

    def flush(self) -> None:
        """Forces the metrics to the disk: a resumed run writes only what comes after its checkpoint again."""
        on_first_rank(lambda: self._monitor.flush(), self._world)

    def tell_of(self, checkpoint: Path, step: int, ask: OnCheckpoint) -> None:
        """What the caller tells of a checkpoint; why it could not, where it failed: no training need end for that."""

        def tell() -> None:
            try:
                texts = ask(checkpoint)
            except (UserError, OSError) as error:
                texts = {"conversions": str(error)}
            self._monitor.write_texts(step, texts)

        on_first_rank(tell, self._world)
