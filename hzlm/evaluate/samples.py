"""A handful of dev sentences as a checkpoint converts them: what a person looks at while a run goes on."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hzlm.config import load_config
from hzlm.data.dataset import Dataset
from hzlm.decode.converter import Candidate, Converter, Source
from hzlm.evaluate.files import Example
from hzlm.evaluate.markdown import escape
from hzlm.evaluate.metrics import character_accuracy
from hzlm.evaluate.records import read_records
from hzlm.pinyin import LITERAL, format_pinyin
from hzlm.vocabulary import Vocabulary

NAME = "conversions"
SAMPLES = 10
CHOSEN_FROM = 1000
"""The samples come from about so many sentences, spread over the dev splits."""
PINYIN_VIEWS = frozenset({"pinyin", "toned"})


def show_conversions(checkpoint: Path) -> dict[str, str]:
    """Converts the same dev sentences with any checkpoint of a run, from the datasets that its config names.

    Args:
        checkpoint: its folder.

    Returns:
        A text in Markdown by its name; nothing where the run has no view with pinyin, or no dev split.

    Raises:
        UserError: the checkpoint or a dataset is damaged.
    """
    config = load_config(checkpoint / "config.yaml")
    if not PINYIN_VIEWS & config.data.views.keys():
        return {}
    each = -(-CHOSEN_FROM // len(config.data.path))
    samples = choose_samples(
        example
        for folder in config.data.path
        for example in read_records(Dataset.open(folder, "dev"), "pinyin", limit=each)
    )
    if not samples:
        return {}
    converter = Converter.load(checkpoint)
    found = converter.search([sample.source for sample in samples])
    return {NAME: tabulate_conversions(samples, [candidates[0] for candidates in found], converter.vocabulary)}


def choose_samples(sentences: Iterable[Example]) -> list[Example]:
    """At most ten, of lengths spread over all that there are, the shortest first; always the same ones."""
    by_length = sorted(sentences, key=lambda sentence: len(sentence.hanzi))
    if len(by_length) <= SAMPLES:
        return by_length
    return [by_length[number * (len(by_length) - 1) // (SAMPLES - 1)] for number in range(SAMPLES)]


def tabulate_conversions(samples: Sequence[Example], found: Sequence[Candidate], vocabulary: Vocabulary) -> str:
    """The samples beside their best candidates, wrong characters in bold, in Markdown."""
    counted = [[character is None for character in sample.source.characters] for sample in samples]
    accuracy = character_accuracy([sample.hanzi for sample in samples], [best.text for best in found], counted)
    rows = [
        f"| {escape(pinyin_of(sample.source, vocabulary))} | {escape(sample.hanzi)} "
        f"| {_mark_wrong(best.text, sample.hanzi)} | {best.log_probability:.2f} |"
        for sample, best in zip(samples, found, strict=True)
    ]
    head = ["| pinyin | right | converted | log-probability |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"Right characters: {accuracy:.1%}"])


def pinyin_of(source: Source, vocabulary: Vocabulary) -> str:
    """A source as one would type it."""
    return format_pinyin(
        token
        for token_id, literal in zip(source.ids[source.context :].tolist(), source.literals, strict=True)
        for token in ([vocabulary.tokens[token_id]] if literal is None else [LITERAL + sign for sign in literal])
    )


def _mark_wrong(converted: str, right: str) -> str:
    """Wrong characters in bold."""
    return "".join(
        escape(given) if given == expected else f"**{escape(given)}**"
        for given, expected in zip(converted, right, strict=True)
    ).replace("****", "")
