"""What became of a text on its way into a dataset."""

import heapq
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from hzlm.data.dataset import SPLITS
from hzlm.stored_files import replacing
from hzlm.table import format_table
from hzlm.tools.readers.troubles import Troubles
from hzlm.tools.stages.annotate import SAMPLES
from hzlm.tools.stages.run import STAGES
from hzlm.tools.stages.tally import Amount, Tally
from hzlm.tools.stages.work import Work

_SAMPLE = ("sentence", "place", "reading", "second")


KILLED = "process killed before its task was done; the task was done again"


@dataclass(frozen=True)
class Report:
    """The account of a preparation. In every stage, characters read are those kept, dropped and removed together."""

    seconds: float
    """How long this call took; stages that were done before it are not in it."""
    is_whole: bool
    """Whether this call did all the work, and none was done before."""
    files: dict[str, int]
    """Characters read, by file."""
    troubles: Troubles
    """What was wrong with the inputs, by cause."""
    stages: dict[str, Tally]
    """What each stage did, all its tasks together; its seconds are those of all processes."""
    kept: dict[str, Amount]
    """Sentences written, by split."""
    not_in_tsv: int
    """Held-out sentences that pinyin notation cannot express, since they hold blanks: in the streams, in no .tsv."""
    vocabulary: dict[str, Any]
    """`size`: how many targets, of which `characters` are characters, the others pieces and bytes; `coverage`: share of
    the training split's characters that are known; `unknown`: the most frequent of the others, with their counts."""
    second_readings: int
    """Characters for which the annotation has a second opinion."""
    samples: list[dict[str, Any]]
    """Some of these: sentence, place, reading, second reading."""
    ngram: dict[str, Any] | None
    """The n-gram model of the training split (`NgramSummary`), where one was asked for."""

    @classmethod
    def of_work(cls, work: Work, troubles: Troubles, seconds: float, is_whole: bool) -> Self:
        """Gathers what the tasks of all stages reported.

        Args:
            work: all its stages are done.
            troubles: what was wrong when the files were looked for.
            seconds: how long the call took.
            is_whole: whether it did all the work.
        """
        stages: dict[str, Tally] = {}
        files: Counter[str] = Counter()
        samples: list[tuple[Any, ...]] = []
        last: dict[str, dict[str, Any]] = {}
        not_in_tsv = second_readings = 0
        for name, stage in STAGES.items():
            total = stages[name] = Tally()
            for task in range(stage.count_tasks(work)):
                tally = work.tally(name, task)
                total.add(tally)
                made = last[name] = tally.made
                files.update(made.get("files", {}))
                not_in_tsv += made.get("not_in_tsv", 0)
                second_readings += made.get("second_readings", 0)
                samples = heapq.nsmallest(SAMPLES, [*samples, *map(tuple, made.get("samples", ()))])
        troubles.merge(stages["read"].troubles)
        for name, total in stages.items():
            if total.killed:
                troubles.note(KILLED, f"stage {name}", total.killed)
        return cls(
            seconds=seconds,
            is_whole=is_whole,
            files=dict(files),
            troubles=troubles,
            stages=stages,
            kept={split: work.tally("index", task).kept for task, split in enumerate(SPLITS)},
            not_in_tsv=not_in_tsv,
            vocabulary=last["vocabulary"],
            second_readings=second_readings,
            samples=[dict(zip(_SAMPLE, sample[1:], strict=True)) for sample in samples],
            ngram=last.get("ngram"),
        )

    @property
    def characters(self) -> int:
        """Characters read."""
        return self.stages["read"].read.characters

    @property
    def peak_memory_mb(self) -> int:
        """Largest memory of one process of the stages, in MiB."""
        return max(tally.peak_memory_mb for tally in self.stages.values())

    def save(self, path: Path) -> None:
        """Writes the report as JSON."""
        content = {
            "characters": self.characters,
            "seconds": round(self.seconds, 1),
            "files": self.files,
            "troubles": self.troubles.to_json(),
            "stages": {name: _stage_json(tally) for name, tally in self.stages.items()},
            "kept": {split: asdict(amount) for split, amount in self.kept.items()},
            "not_in_tsv": self.not_in_tsv,
            "vocabulary": self.vocabulary,
            "second_readings": {"characters": self.second_readings, "samples": self.samples},
            "ngram": self.ngram,
        }
        # The name of a file that was read may be no UTF-8: a half of a surrogate pair is left as JSON's \\udc80.
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")

    def __str__(self) -> str:
        """The report as lines for people."""
        rate = f"{self.characters / max(self.seconds, 1e-9):,.0f} characters/s" if self.is_whole else "after a restart"
        lines = [
            f"read       {self.characters:,} characters in {len(self.files):,} files: {self.seconds:.1f} s, "
            f"{rate}, {self.peak_memory_mb:,} MB at most in a process",
            *self._stage_table().splitlines(),
            *(
                f"dropped    {amount}: {cause}"
                for tally in self.stages.values()
                for cause, amount in sorted(tally.dropped.items())
            ),
            *(
                f"trouble    {entry['count']:12,} {cause}: {', '.join(entry['places'][:1])}"
                for cause, entry in self.troubles.to_json().items()
            ),
            *(f"kept       {amount}: {split}" for split, amount in self.kept.items()),
            f"vocabulary {self.vocabulary['size']:,} targets, {self.vocabulary['characters']:,} of them characters, "
            f"{100 * self.vocabulary['coverage']:.4f} % of the training text",
        ]
        if self.vocabulary["unknown"]:
            unknown = ", ".join(f"{character} {count:,}" for character, count in self.vocabulary["unknown"].items())
            lines.append(f"unknown    {unknown}")
        lines.append(f"readings   {self.second_readings:,} characters have a second one (samples in report.json)")
        if self.ngram is not None:
            lines.append(f"n-gram     {self.ngram['text']}")
        if self.not_in_tsv:
            lines.append(f"no .tsv    {self.not_in_tsv:,} held-out sentences with blanks in them")
        return "\n".join(lines)

    def _stage_table(self) -> str:
        """Per stage: what came in, what went on, characters a second and process."""
        rows = []
        for name, tally in self.stages.items():
            if tally.seconds:
                characters = tally.read.characters
                rate = f"{characters / tally.seconds:,.0f}" if characters else "-"
                amounts = (tally.read.items, characters, tally.kept.items, tally.kept.characters)
                cells = [f"{number:,}" if number else "-" for number in amounts]
                rows.append([name, *cells, f"{tally.seconds:,.1f}", rate, f"{tally.peak_memory_mb:,}"])
        headings = ("stage", "items in", "characters in", "items out", "characters out", "s", "characters/s", "MB")
        return format_table(headings, rows)


def _stage_json(tally: Tally) -> dict[str, Any]:
    stored = tally.to_json()
    return {key: stored[key] for key in ("read", "kept", "dropped", "removed", "seconds", "peak_memory_mb")}
