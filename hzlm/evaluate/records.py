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
from hzlm.errors import UserError
from hzlm.evaluate.files import Example
from hzlm.settings import explain_unknown

SEED = 0
"""Of the views: every evaluation shows the same of a record."""


def read_records(dataset: Dataset, view: str, context: int = 0, limit: int | None = None) -> Iterator[Example]:
    """Sentences spread evenly over a split, without those that hold blanks, which pinyin cannot say.

    Args:
        dataset: one split.
        view: what is shown of them (`hzlm.data.views`), with its usual settings. It is their origin.
        context: most positions of preceding sentences that one is given, where there are.
        limit: number of sentences; None for all.

    Raises:
        UserError: the view is none, or one that conversion cannot undo.
    """
    if view not in VIEWS:
        raise UserError(f"{dataset.folder}: view {view}: {explain_unknown('view', view, VIEWS)}")
    if view == "wrong":
        raise UserError(f"{dataset.folder}: view wrong: no conversion changes hanzi; measure a file of corrections")
    vocabulary = dataset.vocabulary
    views = ViewMixture(DataConfig(path={dataset.folder: 1.0}, views={view: 1.0}), vocabulary)
    total = len(dataset)
    numbers = np.arange(total) if limit is None or limit >= total else np.linspace(0, total - 1, limit).astype(np.int64)
    contexts = count_preceding(dataset, numbers, np.full(len(numbers), context))
    for number, count in zip(numbers.tolist(), contexts.tolist(), strict=True):
        record = dataset.record(number)
        texts = vocabulary.texts(record.hanzi)
        hanzi = "".join(texts)
        if any(map(str.isspace, hanzi)):
            continue
        shown = views.source(record, numpy_generator(SEED, "view", number))
        literals = tuple(
            text if token == right else None
            for text, token, right in zip(texts, shown.tolist(), record.hanzi.tolist(), strict=True)
        )
        example = Example(Source(shown.astype(np.int64), literals), hanzi, view)
        yield _behind(example, dataset, range(number - count, number))


def _behind(example: Example, dataset: Dataset, before: range) -> Example:
    """The example with some sentences as its context; none of them is the beginning of its own."""
    context = [dataset.record(number).hanzi for number in before]
    source = example.source
    ids = np.concatenate([*context, source.ids]).astype(np.int64)
    return replace(example, source=replace(source, ids=ids, context=len(ids) - len(source.ids)))
