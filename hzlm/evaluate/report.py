"""What an evaluation found, as a table for people and as JSON for programs."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hzlm.evaluate.metrics import Scores
from hzlm.table import format_table

HEADINGS = ("source", "system", "sentences", "char acc", "CER", "exact", "top-5", "top-10", "BLEU-4")


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

    total: Comparison
    sources: Mapping[str, Comparison]
    """By the third column of the file; empty where the file has none."""
    sentences_per_second: float
    """Of the last system in the table that searches: ten candidates each; without reading and scoring."""

    def json(self) -> str:
        """All numbers in one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def table(self) -> str:
        """A row of each system for each source and for all sentences, and the speed."""
        rows = [
            (name, system, *_cells(scores))
            for name, comparison in [*self.sources.items(), ("total", self.total)]
            for system, scores in comparison.rows().items()
        ]
        return f"{format_table(HEADINGS, rows, names=2)}\n{self.sentences_per_second:.1f} sentences/s"


def _cells(scores: Scores) -> list[str]:
    shares = (scores.char_accuracy, scores.cer, scores.exact_match, scores.top5, scores.top10)
    return [
        f"{scores.sentences:,}",
        *("-" if share is None else f"{share:.2%}" for share in shares),
        f"{scores.bleu4:.2f}",
    ]
