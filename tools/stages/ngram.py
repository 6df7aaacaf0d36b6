"""The last stage: the character n-gram model of the training split, where one is asked for."""

from dataclasses import asdict
from pathlib import Path

from hzlm.data.dataset import SPLITS, VOCABULARY_FILE, stream_prefix
from hzlm.data.indexed import IndexedReader
from hzlm.decode.ngram import NGRAM_FILE
from hzlm.tools.ngram.build import build_ngram
from hzlm.tools.stages.tally import Tally
from hzlm.tools.stages.work import Stage, Work
from hzlm.vocabulary import Vocabulary

ARPA_FILE = "ngram.arpa"


def make_ngram(work: Work, task: int, folder: Path) -> Tally:
    """Builds ngram.safetensors, and ngram.arpa where the settings name a place for it."""
    settings = work.config.ngram
    assert settings.order is not None
    arpa = None if settings.arpa is None else folder / ARPA_FILE
    vocabulary = Vocabulary.load(work.task_folder("vocabulary", 0) / VOCABULARY_FILE)
    train, dev = (
        IndexedReader(stream_prefix(work.task_folder("index", SPLITS.index(split)), split, "hanzi"))
        for split in ("train", "dev")
    )
    summary = build_ngram(train, dev, vocabulary, settings.order, settings.megabytes, folder / NGRAM_FILE, arpa)
    tally = Tally()
    tally.made = {**asdict(summary), "text": str(summary)}
    return tally


BUILD_NGRAM = Stage("ngram", ("ngram",), lambda work: int(work.config.ngram.order is not None), make_ngram)
