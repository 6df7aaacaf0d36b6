"""The stage that makes the vocabulary, out of what all chunks counted."""

from collections import Counter
from pathlib import Path

from safetensors.numpy import load_file

from hzlm.data.dataset import VOCABULARY_FILE
from hzlm.errors import UserError
from hzlm.tools.build_vocabulary import build_vocabulary
from hzlm.tools.count_text import PairCounts, RunCounts, merge_counts, unpack_counts
from hzlm.tools.stages.annotate import COUNTS_FILE, RUNS_FILE
from hzlm.tools.stages.tally import Tally
from hzlm.tools.stages.work import Stage, Work
from hzlm.vocabulary import Vocabulary

SHOWN_CAUSES = 3
"""How many causes are named where nothing is left."""
SHOWN_UNKNOWN = 20
"""How many of the unknown characters a report names."""


def make_vocabulary(work: Work, task: int, folder: Path) -> Tally:
    """Builds vocabulary.json of the training split, or takes the one that the settings name."""
    tally = Tally()
    settings = work.config.vocabulary
    folders = [work.task_folder("annotate", chunk.number) for chunk in work.chunks]
    counted = merge_counts([])
    for annotated in folders:
        found = load_file(annotated / COUNTS_FILE)
        counted = merge_counts([counted, (found["pairs"], found["counts"])])
    counts = unpack_counts(*counted)
    if not counts:
        raise UserError(f"no sentence is left for training; add text{_explain_loss(work)}")
    if settings.path is not None:
        vocabulary = Vocabulary.load(settings.path)
    else:
        runs = RunCounts()
        if settings.pieces:
            for annotated in folders:
                runs.merge(RunCounts.load(annotated / RUNS_FILE))
        vocabulary = build_vocabulary(counts, settings, runs.counts)
    vocabulary.save(folder / VOCABULARY_FILE)
    tally.made = _describe(vocabulary, counts)
    return tally


def _explain_loss(work: Work) -> str:
    """What most of the text was left out for."""
    total = Tally()
    for name, tasks in (("read", len(work.pieces)), ("sentences", len(work.chunks)), ("annotate", len(work.chunks))):
        for task in range(tasks):
            total.add(work.tally(name, task))
    causes = sorted(total.dropped, key=lambda cause: -total.dropped[cause].characters)[:SHOWN_CAUSES]
    found = [f"{total.dropped[cause].characters:,} characters: {cause}" for cause in causes]
    for cause, entry in list(total.troubles.to_json().items())[:SHOWN_CAUSES]:
        found.append(f"{cause}: {entry['places'][0]}")
    return f" ({'; '.join(found)})" if found else ""


def _describe(vocabulary: Vocabulary, counts: PairCounts) -> dict[str, object]:
    totals: Counter[str] = Counter()
    for (character, _), count in counts.items():
        totals[character] += count
    unknown = Counter(
        {
            character: count
            for character, count in totals.items()
            if vocabulary.unknown_id in vocabulary.encode(character)
        }
    )
    return {
        "size": vocabulary.target_size,
        "characters": len(vocabulary.characters),
        "coverage": 1 - unknown.total() / totals.total(),
        "unknown": dict(unknown.most_common(SHOWN_UNKNOWN)),
    }


MAKE_VOCABULARY = Stage("vocabulary", ("vocabulary",), lambda work: 1, make_vocabulary)
