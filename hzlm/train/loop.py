"""The training loop: steps, and what is measured, logged and saved between them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from signal import Signals

import torch

from hzlm.config import RunConfig
from hzlm.data.batches import BatchReader, MicroBatch, StepBatch
from hzlm.data.blend import Blend
from hzlm.errors import UserError
from hzlm.model.losses import SideLoss
from hzlm.progress import Progress
from hzlm.train.checkpoint import RunState, save_checkpoint
from hzlm.train.engine import Engine, StepResult
from hzlm.train.monitor import Monitor
from hzlm.train.noise import NoiseScale
from hzlm.train.peak import find_peak
from hzlm.train.records import History
from hzlm.train.schedule import inverse_square_root
from hzlm.train.stop import Stopped, StopSignals
from hzlm.train.stopwatch import Stopwatch

OnCheckpoint = Callable[[Path], Mapping[str, str]]


def run_steps(
    config: RunConfig,
    engine: Engine,
    blend: Blend,
    reader: BatchReader,
    evaluation: list[MicroBatch],
    progress: RunState,
    on_checkpoint: OnCheckpoint | None,
) -> None:
    """Trains from `progress` to config.train.steps. Where there is a dev split, each checkpoint is measured on it.

    After SIGTERM or Ctrl-C the current step is brought to its end and saved; only what is due at that step anyway is
    measured, so that the run goes on as if it had never been stopped.

    Raises:
        Stopped: after such a signal.
    """
    plan = config.train
    noise = progress.noise
    steps = reader.steps(progress.cursor, plan.micro_batch_rows, plan.accumulation)
    bar = Progress(plan.steps, f"training {plan.output.name}", "steps", initial=progress.step)
    peak = find_peak(engine.device, torch.bfloat16 if plan.precision == "bf16" else torch.float32)
    history = History(plan.output, progress.step, peak=asdict(peak))
    with history, StopSignals() as signals, Monitor(plan.output, progress.step + 1) as monitor, bar:
        watch = Stopwatch(config, blend.vocabulary.target_size, peak)
        for step in range(progress.step + 1, plan.steps + 1):
            batch = next(steps)
            rate = inverse_square_root(
                step, config.schedule.scale, config.model.hidden_size, config.schedule.warmup_steps
            )
            values: dict[str, float] = {}
            if step % plan.evaluate_every == 0:
                with watch.stopped():
                    measured = engine.measure_noise(batch.micro_batches, step)
                if measured is not None:
                    noise = noise.updated(measured)
                    values |= _describe_noise(noise, batch)
            result = engine.train_step(batch.micro_batches, step, rate)
            watch.count(batch)
            history.step = step
            last = step == plan.steps
            saving = step % plan.save_every == 0 or last
            if step % plan.log_every == 0 or step == 1 or last:
                values |= _describe(result, batch, rate) | watch.read()
            scores: dict[str, float] | None = None
            if evaluation and (step % plan.evaluate_every == 0 or saving):
                with watch.stopped():
                    scores = _describe_evaluation(engine.evaluate(evaluation))
                values |= {f"dev/{name}": value for name, value in scores.items()}
            if values:
                monitor.write(step, values)
            saved: Path | None = None
            if saving or signals.caught is not None:
                with watch.stopped():
                    monitor.flush()
                    now = RunState(step, batch.cursor, noise)
                    saved = save_checkpoint(config, engine, blend, now, scores if saving else None)
                    if saving and on_checkpoint is not None:
                        monitor.write_texts(step, _ask(on_checkpoint, saved))
            bar.advance(1, note=f"loss {_total(result.losses):.3f}")
            # looked at anew: a signal may have come while the checkpoint or its texts were written
            if saved is not None and signals.caught is not None:
                number = signals.caught
                raise Stopped(
                    number,
                    f"stopped by {Signals(number).name} after step {step} of {plan.steps}; {saved} is whole, and the "
                    "same command goes on from there",
                )


def _ask(on_checkpoint: OnCheckpoint, saved: Path) -> Mapping[str, str]:
    """What the caller tells of a checkpoint; why it could not, where it failed: no training need end for that."""
    try:
        return on_checkpoint(saved)
    except (UserError, OSError) as error:
        return {"conversions": str(error)}


def _describe(result: StepResult, batch: StepBatch, learning_rate: float) -> dict[str, float]:
    """Of this step alone: what hangs on earlier ones would differ after a resume."""
    losses = {f"train/{side}_loss": float(part.loss) for side, part in result.losses.items()}
    return losses | {
        "train/loss": _total(result.losses),
        "train/accuracy": _accuracy(result.losses),
        "train/learning_rate": learning_rate,
        "train/gradient_norm": result.gradient_norm,
        "train/real_positions": _real_positions(batch) / sum(part.segments.numel() for part in batch.micro_batches),
    }


def _real_positions(batch: StepBatch) -> int:
    return sum(part.real_positions for part in batch.micro_batches)


def _total(losses: Mapping[str, SideLoss]) -> float:
    return sum(float(part.loss) * part.factor for part in losses.values())


def _accuracy(losses: Mapping[str, SideLoss]) -> float:
    part = losses.get("decoder") or losses["encoder"]
    return part.correct / max(1, part.counted)


def _describe_noise(noise: NoiseScale, batch: StepBatch) -> dict[str, float]:
    values = {"train/batch_positions": float(_real_positions(batch))}
    return values if noise.positions is None else values | {"train/gradient_noise_scale": noise.positions}


def _describe_evaluation(losses: Mapping[str, SideLoss]) -> dict[str, float]:
    sides = {f"{side}_loss": float(part.loss) for side, part in losses.items()}
    return sides | {"loss": _total(losses), "accuracy": _accuracy(losses)}
