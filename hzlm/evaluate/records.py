"""The sentences of a dataset as examples: what a view shows of them, behind the sentences before them in the text."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hzlm.data.context import count_preceding
from hzlm.data.dataset import Dataset
from hzlm.data.sampling import numpy_generator
from hzlm.data.views import ViewMixture
from hzlm.data_config import VIEWS, DataConfig
from hzlm.decode.converter import Source
from hzlm.decode.tolerance import EXACT, Tolerance, tolerant_table
from hzlm.errors import UserError
from hzlm.evaluate.files import Example
from hzlm.settings import explain_unknown
from hzlm.vocabulary import Vocabulary

SEED = 0
"""Of the views: every evaluation shows the same of a record."""


def read_records(
    dataset: Dataset,
    view: str,
    context: int = 0,
    limit: int | None = None,
    longest: int | None = None,
    settings: DataConfig | None = None,
) -> Iterator[Example]:
    """Sentences spread evenly over a split, without those that hold blanks, which pinyin cannot say.

    Syllables of the views `fuzzy`, `slips` and `mixed` may be meant for those that the view makes them of
    (`Source.tolerance`), so that the right answer is in reach. `mixed` has no wrong hanzi, which no conversion changes.
    A syllable that allows no hanzi of the vocabulary is [UNK], as `Converter.read` has it where it is lenient.

    Args:
        dataset: one split, of annotated text.
        view: what is shown of them (`hzlm.data.views`). It is their origin.
        context: most positions of preceding sentences that one is given, where there are.
        limit: number of sentences; None for all.
        longest: positions that a model takes; a sentence has less context where it leaves less room.
        settings: the rates and kinds of the view, as a run has them; None for the defaults.

    Raises:
        UserError: the view is none, or one that conversion cannot undo; the dataset holds pairs, or a sentence of more
            than `longest` positions.
    """
    if view not in VIEWS:
        raise UserError(f"{dataset.folder}: view {view}: {explain_unknown('view', view, VIEWS)}")
    if view == "wrong":
        raise UserError(f"{dataset.folder}: view wrong: no conversion changes hanzi; measure a file of corrections")
    if dataset.is_pairs:
        raise UserError(f"{dataset.folder}: holds pairs, whose sources are given; measure the dev.tsv in it")
    vocabulary = dataset.vocabulary
    settings = settings or DataConfig(path={dataset.folder: 1.0}, views={view: 1.0})
    kinds = restorable_kinds(settings)
    if view == "mixed" and not kinds:
        raise UserError(
            f"{dataset.folder}: view mixed: of hanzi alone, right or wrong, nothing is converted; leave it out"
        )
    views = ViewMixture(settings.model_copy(update={"views": {view: 1.0}, "mixed": kinds}), vocabulary)
    tolerance = _tolerance_of(view, settings)
    table = tolerant_table(vocabulary, tolerance)
    total = len(dataset)
    numbers = np.arange(total) if limit is None or limit >= total else np.linspace(0, total - 1, limit).astype(np.int64)
    lengths = dataset.lengths[numbers].astype(np.int64)
    if longest is not None and len(too_long := np.flatnonzero(lengths > longest)):
        what = f"sentence {numbers[too_long[0]]} has {lengths[too_long[0]]} positions, but this model takes {longest}"
        raise UserError(f"{dataset.folder}: {what} at most; prepare the data with shorter ones")
    room = np.full(len(numbers), context) if longest is None else np.minimum(context, longest - lengths)
    contexts = count_preceding(dataset, numbers, room)
    for number, count in zip(numbers.tolist(), contexts.tolist(), strict=True):
        record = dataset.record(number)
        texts = vocabulary.texts(record.hanzi)
        hanzi = "".join(texts)
        if any(map(str.isspace, hanzi)):
            continue
        shown = [
            token if table.count(token) else vocabulary.unknown_id
            for token in views.source(record, numpy_generator(SEED, "view", number)).tolist()
        ]
        literals = tuple(
            text if token == right else None
            for text, token, right in zip(texts, shown, record.hanzi.tolist(), strict=True)
        )
        example = Example(Source(np.array(shown, np.int64), literals, tolerance=tolerance), hanzi, view)
        yield _behind(example, dataset, range(number - count, number))


def restorable_kinds(settings: DataConfig) -> dict[str, float]:
    """The kinds of the mixed view without wrong hanzi; none where what is left shows everything."""
    kinds = {kind: rate for kind, rate in settings.mixed.items() if kind != "wrong"}
    return {} if kinds.keys() <= {"hanzi"} else kinds


def check_vocabulary(dataset: Dataset, vocabulary: Vocabulary) -> None:
    """Raises UserError unless a dataset has the vocabulary of the model that is to be measured on it."""
    if dataset.vocabulary.fingerprint != vocabulary.fingerprint:
        raise UserError(
            f"{dataset.folder}: its vocabulary is not the model's; give one that was prepared with the model's"
        )


def _behind(example: Example, dataset: Dataset, before: range) -> Example:
    """The example with some sentences as its context; none of them is the beginning of its own."""
    context = [dataset.record(number).hanzi for number in before]
    source = example.source
    ids = np.concatenate([*context, source.ids]).astype(np.int64)
    return replace(example, source=replace(source, ids=ids, context=len(ids) - len(source.ids)))


def _tolerance_of(view: str, settings: DataConfig) -> Tolerance:
    """What may be meant by the syllables of a view."""
    match view:
        case "fuzzy":
            return Tolerance(settings.fuzzy)
        case "slips":
            return Tolerance(slips=True)
        case "mixed":
            return Tolerance(settings.fuzzy if "fuzzy" in settings.mixed else (), "slip" in settings.mixed)
        case _:
            return EXACT
