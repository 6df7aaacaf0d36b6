"""How well one checkpoint of a run decodes the run's own dev sentences: what `hzlm watch` tells of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hzlm.config import load_config
from hzlm.data.dataset import Dataset
from hzlm.data.sentence_files import Pair, read_pairs
from hzlm.data_config import DataConfig
from hzlm.decode.converter import Candidate, Converter
from hzlm.decode.corrector import Corrector
from hzlm.errors import UserError
from hzlm.evaluate.breakdown import answers_of
from hzlm.evaluate.correction_metrics import score_correction
from hzlm.evaluate.files import Example, Line, fits, parse_line
from hzlm.evaluate.homophones import worst_homophones
from hzlm.evaluate.metrics import score
from hzlm.evaluate.records import read_records, restorable_kinds
from hzlm.evaluate.report import format_confusions
from hzlm.evaluate.samples import tabulate_conversions
from hzlm.evaluate.spread import choose_spread
from hzlm.model.pretrained import load_model
from hzlm.pinyin import is_hanzi

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
    """Decodes dev sentences of the datasets that the checkpoint's config names, as the run shows them.

    The sentences of `data.path` are shown under its views, with its rates and kinds, but for wrong hanzi in `mixed`;
    those of `data.pairs` as they are in dev.tsv: text is corrected, pinyin converted.

    Args:
        checkpoint: its folder.
        sentences: of each view about so many, spread over all dev splits; of each dataset of pairs at most as many,
            spread over its dev.tsv.

    Raises:
        UserError: the checkpoint or a dataset is damaged, or there is nothing to decode.
    """
    config = load_config(checkpoint / "config.yaml")
    views = [view for view in CONVERTED if view in config.data.views]
    if "mixed" in views and not restorable_kinds(config.data):
        views.remove("mixed")
    pairs = {_name_of(folder, config.data.pairs): _choose_pairs(folder, sentences) for folder in config.data.pairs}
    shown = list(_read_views(config.data, views, sentences, config.model.max_length))
    if not shown and not any(pairs.values()):
        raise UserError(f"{checkpoint}: nothing to decode: {_explain_nothing(config.data, views)}")
    model, vocabulary = load_model(checkpoint)
    figures: dict[str, float] = {}
    texts: dict[str, str] = {}
    converted = {name: [pair for pair in chosen if _is_pinyin(pair)] for name, chosen in pairs.items()}
    if shown or any(converted.values()):
        converter = Converter(model, vocabulary)
        examples = shown + [
            parse_line(Line(pair.source, pair.target, f"conversion/{name}".removesuffix("/"), pair.where), converter)
            for name, chosen in converted.items()
            for pair in chosen
        ]
        found = [candidates[0] for candidates in converter.search([example.source for example in examples])]
        figures |= _score_conversions(examples, found)
        texts = _show_conversions(examples, found, converter)
    corrected = {name: [pair for pair in chosen if not _is_pinyin(pair)] for name, chosen in pairs.items()}
    if any(corrected.values()):
        corrector = Corrector(model, vocabulary)
        for name, chosen in corrected.items():
            if chosen:
                figures |= _score_corrections(f"correction/{name}".removesuffix("/"), chosen, corrector)
    return Finding(figures, texts)


def _read_views(data: DataConfig, views: Sequence[str], sentences: int, longest: int) -> Iterator[Example]:
    splits = [Dataset.open(folder, "dev") for folder in data.path] if views else []
    each = -(-sentences // max(1, len(splits)))
    for view in views:
        for dev in splits:
            yield from read_records(dev, view, data.context, each, longest, data)


def _choose_pairs(folder: Path, sentences: int) -> list[Pair]:
    """Those of dev.tsv whose source is pinyin, or as long as its target: with vocabulary pieces it need not be."""
    table = folder / "dev.tsv"
    if not table.is_file() or table.stat().st_size == 0:
        return []

    def read() -> Iterator[Pair]:
        return (pair for pair in read_pairs(table) if _is_pinyin(pair) or len(pair.source) == len(pair.target))

    return choose_spread(read, sentences)


def _name_of(folder: Path, folders: Iterable[Path]) -> str:
    """What tells a dataset of pairs from the others: nothing where there is one, its name, or else its path."""
    others = [other.name for other in folders if other != folder]
    return "" if not others else str(folder) if folder.name in others else folder.name


def _is_pinyin(pair: Pair) -> bool:
    """Whether the source of a pair is pinyin of hanzi; text without any hanzi may look like it."""
    return any(map(is_hanzi, pair.target)) and fits(pair.source, pair.target)


def _explain_nothing(data: DataConfig, views: Sequence[str]) -> str:
    folders = ", ".join(str(folder) for folder in (*(data.path if views else ()), *data.pairs))
    if folders:
        return f"the dev splits of {folders} hold no sentence for it"
    return f"the run has no pairs, and none of its views is one of {', '.join(CONVERTED)} that asks for something"


def _score_conversions(examples: Sequence[Example], found: Sequence[Candidate]) -> dict[str, float]:
    """Of all together and, where they come from several views or pairs, of each of these."""
    figures: dict[str, float] = {}
    origins = list(dict.fromkeys(example.origin for example in examples))
    for origin in [None, *origins] if len(origins) > 1 else [None]:
        chosen = [place for place, example in enumerate(examples) if origin in (None, example.origin)]
        scores = score(
            [examples[place].hanzi for place in chosen],
            [[found[place].text] for place in chosen],
            [[character is None for character in examples[place].source.characters] for place in chosen],
            ranked=False,
        )
        name = "" if origin is None else f"{origin}/"
        figures |= {f"{name}{field}": getattr(scores, field) for field in ("char_accuracy", "cer", "exact_match")}
        figures[f"{name}bleu4"] = scores.bleu4
    return figures


def _show_conversions(examples: Sequence[Example], found: Sequence[Candidate], converter: Converter) -> dict[str, str]:
    def wrong(place: int) -> int:
        return sum(map(str.__ne__, examples[place].hanzi, found[place].text))

    worst = sorted(range(len(examples)), key=wrong, reverse=True)[:WORST]
    mistakes = tabulate_conversions(
        [examples[place] for place in worst], [found[place] for place in worst], converter.vocabulary
    )
    answers = [
        answer
        for example, best in zip(examples, found, strict=True)
        for answer in answers_of(example.source, example.hanzi, best.text)
    ]
    return {"mistakes": mistakes, "homophones": format_confusions(worst_homophones(answers, converter.vocabulary))}


def _score_corrections(name: str, pairs: Sequence[Pair], corrector: Corrector) -> dict[str, float]:
    written = [pair.source for pair in pairs]
    given = [correction.text for correction in corrector.correct_many(written)]
    scores = score_correction(written, [pair.target for pair in pairs], given)
    figures = {
        f"{name}/detection_f1": scores.sentence_detection.f1,
        f"{name}/f1": scores.sentence_correction.f1,
        f"{name}/character_f1": scores.character_correction.f1,
    }
    return figures if scores.untouched is None else figures | {f"{name}/untouched": scores.untouched}
