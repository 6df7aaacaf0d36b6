"""What an evaluation of corrections found, as tables for people and as JSON for programs."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from hzlm.decode.calibration import Caution
from hzlm.evaluate.breakdown import Breakdown
from hzlm.evaluate.charts import Chart
from hzlm.evaluate.correction_metrics import Agreement, CorrectionScores
from hzlm.evaluate.markdown import escape, format_markdown_table
from hzlm.table import format_table

HEADINGS = ("level", "task", "precision", "recall", "F1", "hits", "changed", "wrong")

DIVISIONS = {
    "position": "Right characters by what was written there",
    "length": "Corrected errors by characters of the sentence",
    "errors": "Corrected errors by errors of the sentence",
}
"""Division of a breakdown -> the title of its table."""
DRAWN = {"length": "characters of the sentence (and errors)", "errors": "errors of the sentence (and errors)"}
"""The divisions that are drawn -> what their classes are."""


@dataclass(frozen=True)
class Miscorrection:
    """What was written, what it should be and what a system made of it."""

    written: str
    right: str
    given: str
    count: int
    share: float
    """Of all places where this was written and the other would be right."""


@dataclass(frozen=True)
class CorrectionEvaluation:
    """The scores of a corrector on a file of sentences."""

    model: str
    data: str
    """The paths, as they were given."""
    caution: Caution
    """What held the corrector back."""
    scores: CorrectionScores
    breakdown: Breakdown
    """`position`: written wrong or right; `length` and `errors`: of the characters that were written wrong."""
    miscorrections: tuple[Miscorrection, ...]
    """The oftenest ones."""
    sentences_per_second: float

    def json(self) -> str:
        """All numbers in one line."""
        levels = {f"{level}_{task}": agreement for level, task, agreement in self._agreements()}
        scores = {
            **asdict(self.scores),
            "false_positive_rate": self.scores.false_positive_rate,
            "untouched": self.scores.untouched,
            **{name: {**asdict(found), **_shares(found)} for name, found in levels.items()},
        }
        return json.dumps({**asdict(self), "scores": scores}, ensure_ascii=False)

    def table(self) -> str:
        """A row of each level and task, and what does not fit in it."""
        rows = [(level, task, *_cells(found)) for level, task, found in self._agreements()]
        return (
            f"{format_table(HEADINGS, rows, names=2)}\n{self._summary()}\n{self.sentences_per_second:.1f} sentences/s"
        )

    def markdown(self) -> str:
        """The scores, corrected errors by class, and the oftenest wrong characters that stayed or became."""
        lenient = [
            (task, f"{found.lenient_precision:.2%}", f"{found.recall:.2%}", f"{found.lenient_f1:.2%}")
            for level, task, found in self._agreements()
            if level == "sentence"
        ]
        parts = [
            f"# Evaluation\n\nModel {escape(self.model)}, data {escape(self.data)}.",
            "## Scores",
            format_markdown_table(
                HEADINGS, [(level, task, *_cells(found)) for level, task, found in self._agreements()], 2
            ),
            self._summary(),
            "Sentences as the tool of SIGHAN 2014 and 2015 counts: of the changed sentences, only those without errors "
            "lower precision.",
            format_markdown_table(("task", "precision", "recall", "F1"), lenient),
        ]
        for division, title in DIVISIONS.items():
            rows = [
                (escape(name), f"{tally.total:,}", f"{tally.right:,}", f"{tally.share:.2%}")
                for name, tally in self.breakdown[division].items()
            ]
            parts += [f"## {title}", format_markdown_table((division, "characters", "right", "share"), rows)]
        worst = [
            (escape(found.written), escape(found.right), escape(found.given), f"{found.count:,}", f"{found.share:.2%}")
            for found in self.miscorrections
        ]
        headings = ("written", "right", "given", "times", "of all such places")
        return "\n\n".join([*parts, "## Oftenest mistakes", format_markdown_table(headings, worst, 3)])

    def charts(self) -> list[Chart]:
        """Corrected errors by length of the sentence, and by its number of errors."""
        return [
            Chart(f"corrected_by_{division}", "Corrected errors", label, {"model": self.breakdown[division]})
            for division, label in DRAWN.items()
        ]

    def _agreements(self) -> Iterator[tuple[str, str, Agreement]]:
        yield "sentence", "detection", self.scores.sentence_detection
        yield "sentence", "correction", self.scores.sentence_correction
        yield "character", "detection", self.scores.character_detection
        yield "character", "correction", self.scores.character_correction

    def _summary(self) -> str:
        scores = self.scores
        clean = (
            "none without errors"
            if scores.untouched is None
            else f"of those without errors {scores.untouched:.2%} untouched, "
            f"{scores.false_positive_rate:.2%} changed (false positive rate)"
        )
        return f"{scores.sentences:,} sentences, {scores.exact_match:.2%} right afterwards; {clean}; {self.caution}"


def _shares(found: Agreement) -> dict[str, float]:
    return {
        "precision": found.precision,
        "recall": found.recall,
        "f1": found.f1,
        "lenient_precision": found.lenient_precision,
        "lenient_f1": found.lenient_f1,
    }


def _cells(found: Agreement) -> list[str]:
    shares = (found.precision, found.recall, found.f1)
    return [*(f"{share:.2%}" for share in shares), *(f"{n:,}" for n in (found.hits, found.changed, found.wrong))]
