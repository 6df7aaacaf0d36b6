"""The second pass over a corpus: annotated sentences -> the streams of a dataset, and the held-out ones as .tsv."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hzlm.data.dataset import SplitWriter
from hzlm.pinyin import LITERAL, SYLLABLE, SYLLABLES, TONES, format_pinyin
from hzlm.progress import Progress
from hzlm.tools.encode import RecordEncoder
from hzlm.tools.report import Report
from hzlm.tools.spool import Spool

NOT_IN_VOCABULARY = "the vocabulary lacks the reading of a hanzi"
TSV_SPLITS = ("dev", "test")


def write_split(
    spool: Spool,
    folder: Path,
    split: str,
    encoder: RecordEncoder,
    sources: Sequence[str],
    report: Report,
    bar: Progress,
) -> None:
    """Writes the streams and the sidecar of a split, and `SPLIT.tsv` where it is held out.

    Args:
        spool: its sentences.
        folder: the dataset folder.
        split: its name.
        encoder: holds the vocabulary.
        sources: name of each input file, by its ordinal.
        report: `kept`, `dropped` and `not_in_tsv` are counted on.
        bar: advanced by one for each sentence.
    """
    lines: list[str] = []
    with SplitWriter(folder, split, encoder.vocabulary) as writer:
        for start, end in pairwise(spool.codes.documents.tolist()):
            for i in range(start, end):
                codes, readings = spool.codes[i], spool.readings[i]
                record = encoder.encode(codes, readings, spool.word_starts[i])
                bar.advance()
                if record is None:
                    report.drop(NOT_IN_VOCABULARY, len(codes))
                    continue
                writer.add(record)
                report.kept[split].count(len(codes))
                if split in TSV_SPLITS:
                    sentence = codes.astype("<i4").tobytes().decode("utf-32-le")
                    if " " in sentence:
                        report.not_in_tsv += 1
                    else:
                        lines.append(f"{_to_pinyin(sentence, readings)}\t{sentence}\t{sources[spool.sources[i]]}\n")
            writer.end_document()
        writer.finish()
    if split in TSV_SPLITS:
        (folder / f"{split}.tsv").write_text("".join(lines), encoding="utf-8")


def _to_pinyin(sentence: str, readings: npt.NDArray[np.int16]) -> str:
    return format_pinyin(
        LITERAL + character if reading < 0 else SYLLABLE + SYLLABLES[reading // len(TONES)]
        for character, reading in zip(sentence, readings.tolist(), strict=True)
    )
