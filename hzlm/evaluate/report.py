"""What an evaluation of conversions found, as tables for people and as JSON for programs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hzlm.evaluate.breakdown import Breakdown
from hzlm.evaluate.charts import Chart
from hzlm.evaluate.homophones import Confusion
from hzlm.evaluate.markdown import escape, format_markdown_table
from hzlm.evaluate.metrics import Scores
from hzlm.table import format_table

HEADINGS = ("source", "system", "sentences", "char acc", "CER", "exact", "top-5", "top-10", "BLEU-4")
BLEU_HEADINGS = ("source", "system", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")

DIVISIONS = {
    "homophones": "hanzi that fit the source as it stands",
    "polyphony": "readings of the right hanzi in the training text",
    "length": "characters of the sentence",
    "kind": "what the source says",
}
"""Division of a breakdown -> what its classes are."""
DRAWN = ("length", "homophones")


@dataclass(frozen=True)
class Comparison:
    """The model beside others, on the same sentences."""

    model: Scores
    ngram: Scores | None
    """The n-gram model of its companion alone; None where it has none."""
    fused: Scores | None
    """The model with its companion."""
    baseline: Scores
    """The most frequent hanzi of each syllable."""

    def rows(self) -> dict[str, Scores]:
        """Each system that there is, by the name that the table gives it."""
        systems = {"model": self.model, "n-gram": self.ngram, "fused": self.fused, "most frequent": self.baseline}
        return {name: scores for name, scores in systems.items() if scores is not None}


@dataclass(frozen=True)
class Evaluation:
    """The scores on a file of sentences."""

    model: str
    data: str
    """The paths, as they were given."""
    total: Comparison
    sources: Mapping[str, Comparison]
    """By the third column of the file; empty where the file has none."""
    breakdowns: Mapping[str, Breakdown]
    """Of all sentences, by the name of the system in the table."""
    confusions: Mapping[str, tuple[Confusion, ...]]
    """The worst homophones, by the name of the system."""
    sentences_per_second: float
    """Of the last system in the table that searches: ten candidates each; without reading and scoring."""

    def json(self) -> str:
        """All numbers in one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def table(self) -> str:
        """A row of each system for each source and for all sentences, and the speed."""
        rows = [(name, system, *_cells(scores)) for name, system, scores in self._scores()]
        return f"{format_table(HEADINGS, rows, names=2)}\n{self.sentences_per_second:.1f} sentences/s"

    def markdown(self) -> str:
        """The scores of all systems, right characters by class, and the worst homophones of what converts best."""
        scores = [(escape(name), system, found) for name, system, found in self._scores()]
        best = "fused" if self.total.fused else "model"
        parts = [
            f"# Evaluation\n\nModel {escape(self.model)}, data {escape(self.data)}.",
            "## Scores",
            format_markdown_table(HEADINGS, [(name, system, *_cells(found)) for name, system, found in scores], 2),
            format_markdown_table(
                BLEU_HEADINGS,
                [
                    (name, system, *(f"{n:.2f}" for n in (found.bleu1, found.bleu2, found.bleu3, found.bleu4)))
                    for name, system, found in scores
                ],
                2,
            ),
            "BLEU of characters, sacrebleu, not smoothed.",
            *(part for division in DIVISIONS for part in self._division(division)),
            f"## Worst homophones: {best}",
            format_confusions(self.confusions[best]),
        ]
        return "\n\n".join(parts)

    def charts(self) -> list[Chart]:
        """Right characters by length of the sentence, and by number of homophones."""
        return [
            Chart(
                name=f"accuracy_by_{division}",
                title="Right characters",
                label=f"{DIVISIONS[division]} (and counted characters)",
                systems={system: breakdown[division] for system, breakdown in self.breakdowns.items()},
            )
            for division in DRAWN
        ]

    def _scores(self) -> list[tuple[str, str, Scores]]:
        return [
            (name, system, scores)
            for name, comparison in [*self.sources.items(), ("total", self.total)]
            for system, scores in comparison.rows().items()
        ]

    def _division(self, division: str) -> tuple[str, str]:
        """Its heading and its table: a row of each class, a column of each system."""
        tallies = {system: breakdown[division] for system, breakdown in self.breakdowns.items()}
        rows = [
            (escape(name), f"{tally.total:,}", *(f"{of_class[name].share:.2%}" for of_class in tallies.values()))
            for name, tally in next(iter(tallies.values())).items()
        ]
        headings = (division, "characters", *tallies)
        return f"## Right characters by {DIVISIONS[division]}", format_markdown_table(headings, rows)


def _cells(scores: Scores) -> list[str]:
    shares = (scores.char_accuracy, scores.cer, scores.exact_match, scores.top5, scores.top10)
    return [
        f"{scores.sentences:,}",
        *("-" if share is None else f"{share:.2%}" for share in shares),
        f"{scores.bleu4:.2f}",
    ]


def format_confusions(confusions: tuple[Confusion, ...]) -> str:
    """A table in Markdown."""
    rows = [
        (escape(found.right), escape(found.given), escape(found.source), f"{found.count:,}", f"{found.share:.2%}")
        for found in confusions
    ]
    return format_markdown_table(("right", "given", "source", "times", "of all of the right one"), rows, 3)
