"""`hzlm calibrate`: how boldly a trained model corrects, tuned on sentences with errors."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

from hzlm.data.sentence_files import Pair
from hzlm.decode.calibration import Calibration, Caution, Trial, save_calibration
from hzlm.decode.corrector import Corrector
from hzlm.errors import UserError
from hzlm.evaluate.correction_metrics import score_correction
from hzlm.evaluate.files import read_corrections
from hzlm.evaluate.spread import choose_spread
from hzlm.model.checkpoint_files import CHECKPOINTS
from hzlm.model.pretrained import find_checkpoint, load_model, step_of
from hzlm.progress import Progress

BIASES = (0.0, 1.0, 2.0, 4.0)
THRESHOLDS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Nats; ascending, as BIASES are."""

SENTENCES = 500
"""Pairs looked at, spread over the whole file."""


def calibrate(run: Path, data: Path, untouched: float) -> Calibration:
    """Tunes `Caution` by the sentence-level F1 of correction, and writes RUN/correction.json.

    Of the settings that leave enough of the right sentences untouched the best ones are taken, else those that leave
    the most.

    Args:
        run: run folder of `hzlm train`; its latest checkpoint is what is tuned.
        data: file of sentences with errors (`hzlm.evaluate.files.read_corrections`).
        untouched: least share of the file's right sentences that are to stay as they are.

    Raises:
        UserError: something is missing or damaged.
    """
    if not (run / CHECKPOINTS).is_dir():
        raise UserError(f"{run}: no run folder with checkpoints; give the folder that hzlm train wrote")
    checkpoint = find_checkpoint(run) or run
    corrector = Corrector(*load_model(checkpoint))
    pairs = choose_spread(lambda: read_corrections(data), SENTENCES)
    with Progress(len(BIASES) * len(THRESHOLDS), "calibrating", "settings") as progress:
        trials = _try_all(corrector, pairs, progress.advance)
    fitting = [trial for trial in trials if trial.untouched >= untouched]
    best = (
        max(fitting, key=lambda trial: (trial.f1, trial.untouched))
        if fitting
        else max(trials, key=lambda trial: (trial.untouched, trial.f1))
    )
    calibration = Calibration(best.bias, best.threshold, untouched, step_of(checkpoint), len(pairs), tuple(trials))
    save_calibration(run, calibration)
    return calibration


def _try_all(corrector: Corrector, pairs: Sequence[Pair], advance: Callable[[], None]) -> list[Trial]:
    """All pairs of a bias and a threshold, the least cautious first.

    A text that one pair leaves untouched is taken to stay so under more caution: it is not corrected again.
    """
    texts = {text for pair in pairs for text in (pair.source, pair.target)}
    changed: dict[tuple[float, float], set[str]] = {}
    trials = []
    for bias, threshold in product(BIASES, THRESHOLDS):
        bolder = [
            found
            for (other_bias, other_threshold), found in changed.items()
            if other_bias <= bias and other_threshold <= threshold
        ]
        asked = sorted(texts.intersection(*bolder))
        corrector.caution = Caution(bias, threshold)
        corrections = zip(asked, corrector.correct_many(asked), strict=True)
        given = {text: correction.text for text, correction in corrections if correction.text != text}
        changed[bias, threshold] = set(given)
        trials.append(_judge(bias, threshold, pairs, given))
        advance()
    return trials


def _judge(bias: float, threshold: float, pairs: Sequence[Pair], given: Mapping[str, str]) -> Trial:
    """given: what became of each text that was changed."""
    written, right = [pair.source for pair in pairs], [pair.target for pair in pairs]
    scores = score_correction(written, right, [given.get(text, text) for text in written])
    kept = sum(text not in given for text in right)
    return Trial(bias, threshold, scores.sentence_correction.f1, kept / len(right))
