"""Evaluation of a checkpoint on sentences whose hanzi are known."""

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from hzlm.data.dataset import Dataset
from hzlm.data_config import FUZZY_PAIRS
from hzlm.decode.converter import NARROWEST, Converter, System
from hzlm.errors import UserError
from hzlm.evaluate.baseline import most_frequent_hanzi
from hzlm.evaluate.breakdown import Breakdown, answers_of, break_down
from hzlm.evaluate.files import Example, Format, read_examples
from hzlm.evaluate.homophones import Confusion, worst_homophones
from hzlm.evaluate.metrics import Scores, score
from hzlm.evaluate.records import check_vocabulary, read_records
from hzlm.evaluate.report import Comparison, Evaluation
from hzlm.progress import Progress

CANDIDATES = 10
"""Candidates of each sentence: what the top-10 hit rate needs."""


def evaluate(
    model: Path,
    data: Path,
    beam: int = CANDIDATES,
    limit: int | None = None,
    format: Format = "pinyin",
    tones: bool = False,
    views: Sequence[str] = ("pinyin",),
    context: int = 0,
    fuzzy: bool = False,
) -> Evaluation:
    """Convert every line of a file, or the sentences of a dataset's dev split, and compare with their hanzi.

    Args:
        model: run folder or checkpoint.
        data: file of sentences with pinyin or readings, as `hzlm.evaluate.files` reads them; or a dataset folder.
        beam: width of the model's search; those that go by the n-gram model are no narrower than they need
            (`hzlm.decode.converter.NARROWEST`).
        limit: number of lines measured, from the first one, or of sentences of each view, spread over the dev split;
            None for all.
        format: `pinyin` or `readings`.
        tones: whether the tones of `readings` are given to the model.
        views: what is shown of the sentences of a dataset, all of them under each view, with the default settings of
            `hzlm.data_config`; what they confuse may be meant (`read_records`), which leaves the other views alone.
        context: most positions of preceding sentences that the sentences of a dataset are given.
        fuzzy: whether in a file sounds that people confuse may stand for each other.

    Raises:
        UserError: the model or the file is missing or damaged, or a line is no pair of equally long texts.
    """
    converter = Converter.load(model, FUZZY_PAIRS if fuzzy else ())
    if data.is_dir():
        dev = Dataset.open(data, "dev")
        check_vocabulary(dev, converter.vocabulary)
        examples = [
            example for view in views for example in read_records(dev, view, context, limit, converter.max_length)
        ]
    else:
        examples = list(islice(read_examples(data, converter, format, tones), limit))
    if not examples:
        raise UserError(f"{data}: no sentences in it; give lines of pinyin<TAB>hanzi, or a dataset with a dev split")
    sources = [example.source for example in examples]
    systems: dict[System, int] = {"model": beam}
    if converter.companion is not None:
        companions: tuple[System, ...] = ("n-gram", "fused")
        systems |= {system: max(beam, NARROWEST[system]) for system in companions}
    converted: dict[str, list[list[str]]] = {}
    with Progress(len(systems) * len(examples), "evaluating", "sentences") as progress:
        for system, width in systems.items():
            start = time.perf_counter()
            results = converter.search(sources, CANDIDATES, width, progress.advance, system)
            seconds = time.perf_counter() - start
            converted[system] = [[candidate.text for candidate in candidates] for candidates in results]
    converted["most frequent"] = [[most_frequent_hanzi(converter.vocabulary, source)] for source in sources]
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        if example.origin is not None:
            groups.setdefault(example.origin, []).append(index)
    breakdowns: dict[str, Breakdown] = {}
    confusions: dict[str, tuple[Confusion, ...]] = {}
    for name, found in converted.items():
        answers = [
            answer
            for example, candidates in zip(examples, found, strict=True)
            for answer in answers_of(example.source, example.hanzi, candidates[0])
        ]
        breakdowns[name] = break_down(answers, converter.vocabulary)
        confusions[name] = worst_homophones(answers, converter.vocabulary)

    def compare(chosen: Sequence[int]) -> Comparison:
        expected = [examples[i] for i in chosen]
        scores = {
            system: _score(expected, [found[i] for i in chosen], ranked=system in systems)
            for system, found in converted.items()
        }
        return Comparison(scores["model"], scores.get("n-gram"), scores.get("fused"), scores["most frequent"])

    return Evaluation(
        model=str(model),
        data=str(data),
        total=compare(range(len(examples))),
        sources={origin: compare(chosen) for origin, chosen in groups.items()},
        breakdowns=breakdowns,
        confusions=confusions,
        sentences_per_second=len(examples) / seconds,
    )


def _score(examples: Sequence[Example], candidates: Sequence[Sequence[str]], ranked: bool) -> Scores:
    counted = [[character is None for character in example.source.characters] for example in examples]
    return score([example.hanzi for example in examples], candidates, counted, ranked)
