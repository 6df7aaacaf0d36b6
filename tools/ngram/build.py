"""From the training split of a dataset to an n-gram model."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hzlm.data.indexed import IndexedReader
from hzlm.decode.ngram import END_ID, HEADER_BYTES, NgramModel
from hzlm.tools.ngram.arpa import write_arpa
from hzlm.tools.ngram.count import count_ngrams
from hzlm.tools.ngram.estimate import estimate
from hzlm.tools.ngram.prune import as_model, prune_to_size
from hzlm.vocabulary import Vocabulary


@dataclass(frozen=True)
class NgramSummary:
    """What an n-gram model came to."""

    counted: tuple[int, ...]
    """Different n-grams of the training split, by order."""
    kept: tuple[int, ...]
    """Of these in the model, by order."""
    bytes: int
    """Size of its file."""
    dev_perplexity: float | None
    """Of a character of the dev split, ends of sentences counted as one; None where that split is empty."""

    def __str__(self) -> str:
        kept = " + ".join(f"{count:,}" for count in self.kept)
        quality = "" if self.dev_perplexity is None else f", perplexity {self.dev_perplexity:.1f} on dev"
        return f"{kept} of {sum(self.counted):,} n-grams, {self.bytes / 2**20:.1f} MB{quality}"


def build_ngram(
    text: IndexedReader,
    dev: IndexedReader,
    vocabulary: Vocabulary,
    order: int,
    megabytes: float,
    output: Path,
    arpa: Path | None = None,
) -> NgramSummary:
    """Writes the n-gram model of a text. All its n-grams are held in memory.

    Args:
        text: target ids, a sentence a sequence.
        dev: other sentences, to measure the model on.
        order: of the longest n-grams.
        megabytes: largest size of the file, in MiB; what is worth least is pruned, but no unigram.
        output: the file.
        arpa: where the same model is also written in ARPA format.
    """
    whole = estimate(count_ngrams(text.numbers, text.lengths, order, vocabulary))
    pruned = prune_to_size(whole, int(megabytes * 2**20) - HEADER_BYTES)
    model = as_model(pruned)
    model.save(output, vocabulary)
    if arpa is not None:
        write_arpa(pruned, vocabulary, arpa)
    return NgramSummary(
        counted=_counts(whole.ngrams.bounds),
        kept=_counts(pruned.ngrams.bounds),
        bytes=output.stat().st_size,
        dev_perplexity=perplexity(model, dev.numbers, dev.lengths) if len(dev) else None,
    )


def perplexity(model: NgramModel, numbers: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]) -> float:
    """Of sentences one after the other (target ids), each closed by </s>, which is predicted as well."""
    rows = np.split(numbers.astype(np.int64), np.cumsum(lengths)[:-1])
    ids = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
    ids = torch.nn.functional.pad(ids, (0, 1), value=END_ID)
    ends = torch.from_numpy(lengths.astype(np.int64))
    _, contexts = model.look_up(torch.zeros(len(ids), dtype=torch.int64), torch.tensor(Vocabulary.bos_id))
    total = 0.0
    for position, words in enumerate(ids.unbind(1)):
        scores, contexts = model.look_up(contexts, words)
        total += float(scores[position <= ends].sum())
    return float(np.exp(-total / (len(numbers) + len(lengths))))


def _counts(bounds: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(end - start for start, end in pairwise(bounds))
