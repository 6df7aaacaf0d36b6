"""A handful of dev sentences as a checkpoint converts them: what a person looks at while a run goes on."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from hzlm.config import load_config
from hzlm.data.dataset import Dataset
from hzlm.decode.converter import Candidate, Converter, Source
from hzlm.evaluate.metrics import character_accuracy
from hzlm.evaluate.run import Example, Line, parse_line, read_lines
from hzlm.pinyin import LITERAL, format_pinyin
from hzlm.vocabulary import Vocabulary

NAME = "conversions"
SAMPLES = 10
CHOSEN_FROM = 1000
"""The samples come from so many sentences at the starts of the dev splits."""
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
    chosen = choose_samples(chain.from_iterable(islice(_read_dev(folder), each) for folder in config.data.path))
    if not chosen:
        return {}
    converter = Converter.load(checkpoint)
    samples = [parse_line(sentence, converter) if isinstance(sentence, Line) else sentence for sentence in chosen]
    found = converter.search([sample.source for sample in samples])
    return {NAME: _tabulate(samples, [candidates[0] for candidates in found], converter.vocabulary)}


def choose_samples(sentences: Iterable[Line | Example]) -> list[Line | Example]:
    """At most ten, of lengths spread over all that there are, the shortest first; always the same ones."""
    by_length = sorted(sentences, key=lambda sentence: len(sentence.hanzi))
    if len(by_length) <= SAMPLES:
        return by_length
    return [by_length[number * (len(by_length) - 1) // (SAMPLES - 1)] for number in range(SAMPLES)]


def _read_dev(folder: Path) -> Iterator[Line | Example]:
    """The dev sentences of a dataset."""
    table = folder / "dev.tsv"
    return read_lines(table) if table.is_file() else _read_records(folder)


def _read_records(folder: Path) -> Iterator[Example]:
    """The dev split of a dataset without dev.tsv, its readings without tones."""
    dev = Dataset.open(folder, "dev")
    for number in range(len(dev)):
        record = dev.record(number)
        texts = dev.vocabulary.texts(record.hanzi)
        hanzi = "".join(texts)
        if any(map(str.isspace, hanzi)):
            continue  # pinyin cannot say it
        # what has no reading carries its own id in both streams
        literals = tuple(
            text if reading >= dev.vocabulary.target_start or reading == dev.vocabulary.unknown_id else None
            for text, reading in zip(texts, record.reading.tolist(), strict=True)
        )
        yield Example(Source(dev.vocabulary.toneless(record.reading).astype("int64"), literals), hanzi, None)


def _tabulate(samples: list[Example], found: list[Candidate], vocabulary: Vocabulary) -> str:
    counted = [[character is None for character in sample.source.characters] for sample in samples]
    accuracy = character_accuracy([sample.hanzi for sample in samples], [best.text for best in found], counted)
    rows = [
        f"| {_escape(pinyin_of(sample.source, vocabulary))} | {_escape(sample.hanzi)} "
        f"| {_mark_wrong(best.text, sample.hanzi)} | {best.log_probability:.2f} |"
        for sample, best in zip(samples, found, strict=True)
    ]
    head = ["| pinyin | right | converted | log-probability |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"Right characters: {accuracy:.1%}"])


def pinyin_of(source: Source, vocabulary: Vocabulary) -> str:
    """A source as one would type it."""
    return format_pinyin(
        token
        for token_id, literal in zip(source.ids.tolist(), source.literals, strict=True)
        for token in ([vocabulary.tokens[token_id]] if literal is None else [LITERAL + sign for sign in literal])
    )


def _mark_wrong(converted: str, right: str) -> str:
    """Wrong characters in bold."""
    return "".join(
        _escape(given) if given == expected else f"**{_escape(given)}**"
        for given, expected in zip(converted, right, strict=True)
    ).replace("****", "")


def _escape(text: str) -> str:
    """What Markdown would take for its own stands for itself."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]()#+-.!|<>~$" else character for character in text)
