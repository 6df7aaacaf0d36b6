"""The stage that turns annotated sentences into ids of the vocabulary."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from hzlm.data.dataset import SPLITS, VOCABULARY_FILE
from hzlm.pinyin import LITERAL, SYLLABLE, SYLLABLES, TONES, format_pinyin
from hzlm.tools.encode import SentenceEncoder
from hzlm.tools.stages.annotate import ANNOTATED_FILE
from hzlm.tools.stages.tally import Tally
from hzlm.tools.stages.work import Stage, Work
from hzlm.vocabulary import Vocabulary

TOO_LONG = "too long in positions"
NOT_IN_VOCABULARY = "the vocabulary lacks the reading of a hanzi"
TSV_SPLITS = ("dev", "test")
ENCODED_FILE = "encoded.safetensors"


def encode(work: Work, task: int, folder: Path) -> Tally:
    """Encodes the sentences of a chunk.

    Makes encoded.safetensors, the streams and one number a sentence of what is known of it as a whole; and of the
    splits that are held out SPLIT.tsv.
    """
    tally = Tally()
    chunk = load_file(work.task_folder("annotate", task) / ANNOTATED_FILE)
    lengths = chunk["lengths"]
    tally.read.count(len(chunk["codes"]), len(lengths))
    encoder = load_encoder(work.task_folder("vocabulary", 0) / VOCABULARY_FILE, work.config.sentences.max_length)
    encoded = encoder.encode(
        chunk["codes"],
        chunk["readings"],
        chunk["word_starts"],
        chunk["second"],
        lengths,
        chunk["follows"].astype(np.bool_),
    )
    kept = encoded.kept
    for length, too_long in zip(lengths[~kept].tolist(), encoded.too_long[~kept].tolist(), strict=True):
        tally.drop(TOO_LONG if too_long else NOT_IN_VOCABULARY, length)
    tally.kept.count(int(lengths[kept].sum()), int(kept.sum()))
    save_file(
        {
            "hanzi": encoded.hanzi,
            "reading": encoded.reading,
            "marks": encoded.marks,
            "lengths": encoded.lengths,
            "splits": chunk["splits"][kept],
            "documents": chunk["documents"][kept],
            "characters": lengths[kept],
        },
        folder / ENCODED_FILE,
    )
    lines = _Lines(chunk, work.sources)
    for split in TSV_SPLITS:
        chosen = np.flatnonzero(kept & (chunk["splits"] == SPLITS.index(split)))
        (folder / f"{split}.tsv").write_text("".join(map(lines.line, chosen.tolist())), "utf-8")
    tally.made["not_in_tsv"] = lines.left_out
    return tally


class _Lines:
    """The sentences of a chunk as lines of a .tsv file."""

    def __init__(self, chunk: Mapping[str, npt.NDArray[np.generic]], sources: Sequence[str]) -> None:
        self._chunk = chunk
        self._ends = np.cumsum(chunk["lengths"], dtype=np.int64)
        self._sources = sources
        self.left_out = 0
        """How many sentences were asked for that hold blanks, which the notation cannot express."""

    def line(self, sentence: int) -> str:
        """Toneless pinyin, the sentence, the file it came from; nothing for a sentence that holds blanks."""
        place = slice(self._ends[sentence] - self._chunk["lengths"][sentence], self._ends[sentence])
        text = self._chunk["codes"][place].astype("<i4").tobytes().decode("utf-32-le")
        if " " in text:
            self.left_out += 1
            return ""
        pinyin = format_pinyin(
            LITERAL + character if reading < 0 else SYLLABLE + SYLLABLES[reading // len(TONES)]
            for character, reading in zip(text, self._chunk["readings"][place].tolist(), strict=True)
        )
        return f"{pinyin}\t{text}\t{self._sources[int(self._chunk['sources'][sentence])]}\n"


@lru_cache(maxsize=1)
def load_encoder(path: Path, max_length: int) -> SentenceEncoder:
    """The encoder of a vocabulary, made once in a process."""
    return SentenceEncoder(Vocabulary.load(path), max_length)


ENCODE = Stage("encode", (), lambda work: len(work.chunks), encode)
