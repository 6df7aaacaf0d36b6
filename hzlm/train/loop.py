"""The training loop: steps, and what is measured, logged and saved between them. All ranks go through it alike."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from signal import Signals

import torch

from hzlm.config import RunConfig
from hzlm.data.batches import BatchReader, MicroBatch, StepBatch
from hzlm.data.blend import Blend
from hzlm.errors import share
from hzlm.model.losses import PartLoss
from hzlm.parallel.collectives import highest
from hzlm.train.checkpoint import RunState, save_checkpoint
from hzlm.train.engine import Engine, StepResult
from hzlm.train.noise import NoiseScale
from hzlm.train.peak import find_peak
from hzlm.train.recorder import OnCheckpoint, Recorder
from hzlm.train.sampling import predicted_share
from hzlm.train.schedule import learning_rate
from hzlm.train.stop import Stopped, StopSignals
from hzlm.train.stopwatch import Stopwatch


def run_steps(
    config: RunConfig,
    engine: Engine,
    blend: Blend,
    reader: BatchReader,
    evaluation: list[MicroBatch],
    progress: RunState,
    on_checkpoint: OnCheckpoint | None,
) -> RunState:
    """Trains from `progress` to config.train.steps. Where there is a dev split, each checkpoint is measured on it.

    With config.train.patience it ends early, with a checkpoint, behind so many measurements without a lower loss.

    After SIGTERM or Ctrl-C, at whichever rank, the current step is brought to its end and saved; only what is due at
    that step anyway is measured, so that the run goes on as if it had never been stopped.

    Returns:
        How far the run has come.

    Raises:
        Stopped: after such a signal, on all ranks.
    """
    plan, mesh = config.train, engine.mesh
    noise, patience = progress.noise, progress.patience
    steps = reader.steps(progress.cursor, plan.micro_batch_rows, plan.accumulation)
    peak = find_peak(mesh.device, torch.float32 if plan.precision == "fp32" else torch.bfloat16)
    peak = replace(peak, flops_per_second=peak.flops_per_second * mesh.world.size)
    recorder = Recorder(plan, progress.step, mesh, peak=asdict(peak), ranks=mesh.world.size)

    def signal_of(signals: StopSignals) -> int:
        """The signal that some rank has caught; 0 where none has."""
        return highest(signals.caught or 0, mesh.world, mesh.device)

    with recorder, StopSignals() as signals:
        watch = Stopwatch(config, blend.vocabulary.target_size, peak)
        for step in range(progress.step + 1, plan.steps + 1):
            batch = next(steps)
            rate = learning_rate(config.schedule, config.model.hidden_size, plan.steps, step)
            values: dict[str, float] = {}
            if step % plan.evaluate_every == 0:
                with watch.stopped():
                    measured = engine.measure_noise(batch.micro_batches, step)
                if measured is not None:
                    noise = noise.updated(measured)
                    values |= _describe_noise(noise, batch)
            result = engine.train_step(batch.micro_batches, step, rate)
            watch.count(batch)
            last = step == plan.steps
            saving = step % plan.save_every == 0 or last
            scores: dict[str, float] | None = None
            if evaluation and (step % plan.evaluate_every == 0 or saving):
                with watch.stopped():
                    scores = _describe_evaluation(engine.evaluate(evaluation))
                patience = patience.updated(scores["loss"])
            if patience.is_over(plan.patience) and not last:
                recorder.tell_reason(patience.reason)
                last = saving = True
            if step % plan.log_every == 0 or step == 1 or last:
                values |= _describe(result, batch, rate) | watch.read()
                if config.sampling.schedule is not None:
                    values["train/predicted_share"] = predicted_share(config.sampling, step)
            if result.skipped or (values and engine.loss_scale is not None):
                values |= {"train/loss_scale": engine.loss_scale or 0.0, "train/skipped": float(result.skipped)}
            if scores is not None:
                values |= {f"dev/{name}": value for name, value in scores.items()}
            recorder.write(step, values)
            recorder.count(step, _total(result.losses))
            if not saving and not signal_of(signals):
                continue
            with watch.stopped():
                recorder.flush()
                progress = RunState(step, batch.cursor, noise, patience)
                saved = save_checkpoint(config, engine, blend, progress, scores if saving else None, mesh)
                if saving and on_checkpoint is not None:
                    recorder.tell_of(saved, step, on_checkpoint)
            # looked at anew: a signal may have come while the checkpoint or its texts were written
            if number := signal_of(signals):
                reason = (
                    f"stopped by {Signals(number).name} after step {step} of {plan.steps}; {saved} is whole, and the "
                    "same command goes on from there"
                )
                raise share(Stopped(number, reason))
            if last:
                break
    return progress


def _describe(result: StepResult, batch: StepBatch, learning_rate: float) -> dict[str, float]:
    """Of this step alone: what hangs on earlier ones would differ after a resume."""
    losses = {f"train/{name}_loss": part.loss for name, part in result.losses.items()}
    losses |= {f"train/{name}": value for name, value in _retrieval(result.losses).items()}
    return losses | {
        "train/loss": _total(result.losses),
        "train/accuracy": _accuracy(result.losses),
        "train/learning_rate": learning_rate,
        "train/gradient_norm": result.gradient_norm,
        "train/real_positions": batch.counts.positions / batch.counts.places,
    }


def _total(losses: Mapping[str, PartLoss]) -> float:
    return sum(part.loss * part.factor for part in losses.values())


def _accuracy(losses: Mapping[str, PartLoss]) -> float:
    part = losses.get("decoder") or losses["encoder"]
    return part.correct / max(1, part.counted)


def _retrieval(losses: Mapping[str, PartLoss]) -> dict[str, float]:
    """Share of the sentences whose second view is the nearest of all in the micro-batch."""
    part = losses.get("contrastive")
    return {} if part is None else {"retrieval": part.correct / max(1, part.counted)}


def _describe_noise(noise: NoiseScale, batch: StepBatch) -> dict[str, float]:
    values = {"train/batch_positions": float(batch.counts.positions)}
    return values if noise.positions is None else values | {"train/gradient_noise_scale": noise.positions}


def _describe_evaluation(losses: Mapping[str, PartLoss]) -> dict[str, float]:
    parts = {f"{name}_loss": part.loss for name, part in losses.items()}
    return parts | _retrieval(losses) | {"loss": _total(losses), "accuracy": _accuracy(losses)}
