"""`hzlm calibrate`: how boldly a trained model corrects, tuned on sentences with errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

from hzlm.data.sentence_files import Pair
from hzlm.decode.calibration import Calibration, Caution, Trial, save_calibration
from hzlm.decode.corrector import Corrector
from hzlm.errors import UserError
from hzlm.evaluate.correction_metrics import score_correction
from hzlm.evaluate.files import read_corrections
from hzlm.model.checkpoint_files import CHECKPOINTS
from hzlm.model.pretrained import find_checkpoint, load_model, step_of
from hzlm.progress import Progress

BIASES = (0.0, 1.0, 2.0, 4.0)
THRESHOLDS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Nats; ascending, as BIASES are."""

SENTENCES = 500
"""Pairs looked at, spread over the whole file."""


@dataclass(frozen=True)
class _Texts:
    """What is corrected: the sentences with errors and the clean ones."""

    pairs: Sequence[Pair]
    clean: Sequence[str]

    @property
    def written(self) -> list[str]:
        return [*(pair.source for pair in self.pairs), *self.clean]


def calibrate(run: Path, data: Path, untouched: float) -> Calibration:
    """Tunes `Caution` by the sentence-level F1 of correction, and writes RUN/correction.json.

    Of the settings that leave enough clean sentences untouched the best ones are taken, else those that leave the most.
    Clean sentences are those that the file has no error in, or where it has none of these its right ones.

    Args:
        run: run folder of `hzlm train`; its latest checkpoint is what is tuned.
        data: file of sentences with errors (`hzlm.evaluate.files.read_corrections`).
        untouched: least share of clean sentences that are to stay as they are.

    Raises:
        UserError: something is missing or damaged.
    """
    if not (run / CHECKPOINTS).is_dir():
        raise UserError(f"{run}: no run folder with checkpoints; give the folder that hzlm train wrote")
    checkpoint = find_checkpoint(run) or run
    corrector = Corrector(*load_model(checkpoint))
    pairs = _choose_pairs(data)
    clean = [pair.target for pair in pairs if pair.source == pair.target] or [pair.target for pair in pairs]
    with Progress(len(BIASES) * len(THRESHOLDS), "calibrating", "settings") as progress:
        trials = _try_all(corrector, _Texts(pairs, clean), progress.advance)
    fitting = [trial for trial in trials if trial.untouched >= untouched]
    best = (
        max(fitting, key=lambda trial: (trial.f1, trial.untouched))
        if fitting
        else max(trials, key=lambda trial: (trial.untouched, trial.f1))
    )
    calibration = Calibration(
        best.bias, best.threshold, untouched, step_of(checkpoint), len(pairs), len(clean), tuple(trials)
    )
    save_calibration(run, calibration)
    return calibration


def _choose_pairs(path: Path) -> list[Pair]:
    """At most SENTENCES, equally far apart; always the same ones. Only these are held."""
    total = sum(1 for _ in read_corrections(path))
    return list(islice(read_corrections(path), 0, None, -(-total // SENTENCES)))


def _try_all(corrector: Corrector, texts: _Texts, advance: Callable[[], None]) -> list[Trial]:
    """All pairs of a bias and a threshold, the least cautious first.

    A text that one pair leaves untouched is taken to stay so under more caution: it is not corrected again.
    """
    written = texts.written
    changed: dict[tuple[float, float], set[int]] = {}
    trials = []
    for bias, threshold in product(BIASES, THRESHOLDS):
        bolder = [
            found
            for (other_bias, other_threshold), found in changed.items()
            if other_bias <= bias and other_threshold <= threshold
        ]
        asked = sorted(set(range(len(written))).intersection(*bolder))
        corrector.caution = Caution(bias, threshold)
        corrections = corrector.correct_many([written[number] for number in asked])
        given = list(written)
        for number, correction in zip(asked, corrections, strict=True):
            given[number] = correction.text
        changed[bias, threshold] = {number for number in asked if given[number] != written[number]}
        trials.append(_judge(bias, threshold, texts, given))
        advance()
    return trials


def _judge(bias: float, threshold: float, texts: _Texts, given: Sequence[str]) -> Trial:
    of_pairs, of_clean = given[: len(texts.pairs)], given[len(texts.pairs) :]
    written, right = [pair.source for pair in texts.pairs], [pair.target for pair in texts.pairs]
    scores = score_correction(written, right, of_pairs)
    kept = sum(map(str.__eq__, of_clean, texts.clean))
    return Trial(bias, threshold, scores.sentence_correction.f1, kept / len(texts.clean))
