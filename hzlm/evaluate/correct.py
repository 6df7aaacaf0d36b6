"""Evaluation of a corrector on sentences with errors whose right hanzi are known."""

import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from hzlm.data.sentence_files import Pair
from hzlm.decode.corrector import Corrector
from hzlm.evaluate.breakdown import LENGTHS, LONGEST, Breakdown, Tally, class_of
from hzlm.evaluate.correction_metrics import score_correction
from hzlm.evaluate.correction_report import CorrectionEvaluation, Miscorrection
from hzlm.evaluate.files import read_corrections
from hzlm.progress import Progress

ERRORS = ((1, "1"), (2, "2"))
"""The most errors of each class of sentences, and its name; more are MOST_ERRORS."""
MOST_ERRORS = ">2"

SHOWN = 20
"""Miscorrections of a table."""


def evaluate_correction(model: Path, data: Path, limit: int | None = None) -> CorrectionEvaluation:
    """Correct every sentence of a file, and compare with the right one.

    Args:
        model: run folder or checkpoint.
        data: file in the format `correction` of `hzlm.evaluate.files`.
        limit: number of lines measured, from the first one; None for all.

    Raises:
        UserError: the model or the file is missing or damaged, or a line has no two equally long sentences.
    """
    corrector = Corrector.load(model)
    pairs = list(islice(read_corrections(data), limit))
    written = [pair.source for pair in pairs]
    with Progress(len(pairs), "evaluating", "sentences") as progress:
        start = time.perf_counter()
        given = [correction.text for correction in corrector.correct_many(written, progress.advance)]
        seconds = time.perf_counter() - start
    return CorrectionEvaluation(
        model=str(model),
        data=str(data),
        caution=corrector.caution,
        scores=score_correction(written, [pair.target for pair in pairs], given),
        breakdown=break_down_corrections(pairs, given),
        miscorrections=worst_miscorrections(pairs, given),
        sentences_per_second=len(pairs) / seconds,
    )


def break_down_corrections(pairs: Sequence[Pair], given: Sequence[str]) -> Breakdown:
    """Tallies of right characters by `position` (written wrong or right), and of those that were written wrong by
    `length` of the sentence and by `errors` of the sentence.
    """
    tallies = {
        "position": {"wrong": [0, 0], "right": [0, 0]},
        "length": {name: [0, 0] for name in (*(name for _, name in LENGTHS), LONGEST)},
        "errors": {name: [0, 0] for name in (*(name for _, name in ERRORS), MOST_ERRORS)},
    }
    for pair, answer in zip(pairs, given, strict=True):
        kept = [w == r for w, r in zip(pair.source, pair.target, strict=True)]
        right = [g == r for g, r in zip(answer, pair.target, strict=True)]
        errors = kept.count(False)
        corrected = sum(is_right and not was_right for is_right, was_right in zip(right, kept, strict=True))
        _add(tallies["position"]["right"], right.count(True) - corrected, len(kept) - errors)
        _add(tallies["position"]["wrong"], corrected, errors)
        _add(tallies["length"][class_of(len(kept), LENGTHS, LONGEST)], corrected, errors)
        _add(tallies["errors"][class_of(errors, ERRORS, MOST_ERRORS)], corrected, errors)
    return {
        division: {name: Tally(*tally) for name, tally in classes.items() if tally[1]}
        for division, classes in tallies.items()
    }


def worst_miscorrections(pairs: Sequence[Pair], given: Sequence[str]) -> tuple[Miscorrection, ...]:
    """The oftenest wrong characters of the answers, SHOWN at most; equally frequent ones in the order of characters."""
    wrong: Counter[tuple[str, str, str]] = Counter()
    places: Counter[tuple[str, str]] = Counter()
    for pair, answer in zip(pairs, given, strict=True):
        for w, r, g in zip(pair.source, pair.target, answer, strict=True):
            places[w, r] += 1
            wrong[w, r, g] += g != r
    worst = sorted(((found, n) for found, n in wrong.items() if n), key=lambda item: (-item[1], item[0]))[:SHOWN]
    return tuple(Miscorrection(w, r, g, n, n / places[w, r]) for (w, r, g), n in worst)


def _add(tally: list[int], right: int, total: int) -> None:
    tally[0] += right
    tally[1] += total
