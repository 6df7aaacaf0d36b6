"""How well one checkpoint of a run decodes the run's own dev sentences: what `hzlm watch` tells of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hzlm.config import RunConfig, load_config
from hzlm.data.dataset import Dataset
from hzlm.decode.converter import Candidate, Converter
from hzlm.errors import UserError
from hzlm.evaluate.breakdown import answers_of
from hzlm.evaluate.correct import evaluate_correction
from hzlm.evaluate.files import Example, recognize
from hzlm.evaluate.homophones import worst_homophones
from hzlm.evaluate.metrics import score
from hzlm.evaluate.records import read_records
from hzlm.evaluate.report import format_confusions
from hzlm.evaluate.samples import tabulate_conversions

CONVERTED = ("pinyin", "toned", "keys", "fuzzy", "slips", "mixed")
"""Views whose sources are decoded, where the run has them."""
WORST = 10
"""Sentences with the most wrong characters that are shown."""


@dataclass(frozen=True)
class Finding:
    """Figures by name, and texts in Markdown by name."""

    figures: dict[str, float]
    texts: dict[str, str]


def measure_checkpoint(checkpoint: Path, sentences: int) -> Finding:
    """Decodes dev sentences of the datasets that the checkpoint's config names, under the views of the run.

    Args:
        checkpoint: its folder.
        sentences: of each view about so many, spread over all dev splits; of each dataset of pairs as many.

    Raises:
        UserError: the checkpoint or a dataset is damaged, or there is nothing to decode: the dev splits are empty, or
            no view of the run is one that can be converted.
    """
    config = load_config(checkpoint / "config.yaml")
    conversions = _measure_conversions(config, checkpoint, sentences)
    corrections = _measure_corrections(config, checkpoint, sentences)
    found = Finding(conversions.figures | corrections.figures, conversions.texts)
    if not found.figures:
        raise UserError(
            f"{checkpoint}: nothing to decode: its dev splits are empty, or none of its views is one of "
            f"{', '.join(CONVERTED)}"
        )
    return found


def _measure_conversions(config: RunConfig, checkpoint: Path, sentences: int) -> Finding:
    views = [view for view in CONVERTED if view in config.data.views]
    splits = [Dataset.open(folder, "dev") for folder in config.data.path] if views else []
    each = -(-sentences // max(1, len(splits)))
    examples = [
        example
        for view in views
        for dev in splits
        for example in read_records(dev, view, config.data.context, each, config.model.max_length)
    ]
    if not examples:
        return Finding({}, {})
    fuzzy = config.data.fuzzy if "fuzzy" in views else ()
    converter = Converter.load(checkpoint, fuzzy)
    found = [candidates[0] for candidates in converter.search([example.source for example in examples])]
    figures: dict[str, float] = {}
    for view in [None, *views] if len(views) > 1 else [None]:
        chosen = [place for place, example in enumerate(examples) if view in (None, example.origin)]
        scores = score(
            [examples[place].hanzi for place in chosen],
            [[found[place].text] for place in chosen],
            [[character is None for character in examples[place].source.characters] for place in chosen],
            ranked=False,
        )
        name = "" if view is None else f"{view}/"
        figures |= {f"{name}{field}": getattr(scores, field) for field in ("char_accuracy", "cer", "exact_match")}
        figures[f"{name}bleu4"] = scores.bleu4
    answers = [
        answer
        for example, best in zip(examples, found, strict=True)
        for answer in answers_of(example.source, example.hanzi, best.text)
    ]
    homophones = format_confusions(worst_homophones(answers, converter.vocabulary))
    return Finding(figures, {"mistakes": _show_worst(examples, found, converter), "homophones": homophones})


def _show_worst(examples: Sequence[Example], found: Sequence[Candidate], converter: Converter) -> str:
    def wrong(place: int) -> int:
        return sum(map(str.__ne__, examples[place].hanzi, found[place].text))

    worst = sorted(range(len(examples)), key=wrong, reverse=True)[:WORST]
    return tabulate_conversions(
        [examples[place] for place in worst], [found[place] for place in worst], converter.vocabulary
    )


def _measure_corrections(config: RunConfig, checkpoint: Path, sentences: int) -> Finding:
    """Of the datasets of pairs whose sources are text."""
    figures: dict[str, float] = {}
    for folder in config.data.pairs:
        table = folder / "dev.tsv"
        if not table.is_file() or table.stat().st_size == 0 or recognize(table) != "correction":
            continue
        scores = evaluate_correction(checkpoint, table, sentences).scores
        name = "correction" if len(config.data.pairs) == 1 else f"correction/{folder.name}"
        figures |= {
            f"{name}/detection_f1": scores.sentence_detection.f1,
            f"{name}/f1": scores.sentence_correction.f1,
            f"{name}/character_f1": scores.character_correction.f1,
            f"{name}/untouched": scores.untouched,
        }
    return Finding(figures, {})
