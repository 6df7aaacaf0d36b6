"""How fast a run trains: positions and model operations a second, without the time of what is done between steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hzlm.config import RunConfig
from hzlm.data.batches import StepBatch
from hzlm.model.flops import Work, count_flops
from hzlm.train.peak import Peak


class Stopwatch:
    """Counts the steps since the last reading, and the seconds they took. It starts when it is made."""

    def __init__(self, config: RunConfig, targets: int, peak: Peak) -> None:
        """targets: tokens that the output layer chooses from. peak: what the utilisation is a share of."""
        self._config = config
        self._targets = targets
        self._peak = peak.flops_per_second
        self._restart()

    def count(self, batch: StepBatch) -> None:
        """One more step was made."""
        self._work += work_of(batch, self._config)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens inside takes no time."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """The rates since the last reading, by the names of their metrics, after a step or more; starts anew."""
        seconds = time.perf_counter() - self._start
        flops = count_flops(self._config.model, self._targets, self._work).training
        values = {
            "train/tokens_per_second": self._work.positions / seconds,
            "train/model_flops_per_second": flops / seconds,
            "train/flop_utilisation": flops / seconds / self._peak,
        }
        self._restart()
        return values

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._work = Work()


def work_of(batch: StepBatch, config: RunConfig) -> Work:
    """What a step computes on, all ranks together."""
    counts = batch.counts
    return Work(
        positions=counts.positions,
        pairs=counts.pairs,
        encoder_targets=counts.encoder_targets if config.loss.encoder_weight > 0 else 0,
        decoder_targets=counts.decoder_targets if config.loss.decoder_weight > 0 else 0,
    )
