"""How often each n-gram comes in a text."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hzlm.decode.ngram import END_ID
from hzlm.vocabulary import Vocabulary

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ngrams:
    """M n-grams of orders 1 to N as one array, in the numbering of `hzlm.decode.ngram.NgramModel`.

    The node of an n-gram is its index + 1, and 0 is the empty context. Shorter n-grams come first; the prefix of
    every n-gram is there as well. The unigrams are those of every word, whether the text has it or not.
    """

    keys: Ints
    """int64 [M], ascending: node of the n-gram without its last word * vocabulary_size + last word."""
    shorter: Ints
    """int64 [M], node of the longest n-gram here that is a proper suffix of this one; 0 for unigrams."""
    bounds: tuple[int, ...]
    """[N + 1]: the n-grams of order n are those from bounds[n - 1] to bounds[n]."""
    counts: Ints
    """int64 [M], occurrences in the text."""
    vocabulary_size: int

    @property
    def order(self) -> int:
        """N, the length of the longest n-grams."""
        return len(self.bounds) - 1

    @cached_property
    def context(self) -> Ints:
        """int64 [M], node of each n-gram without its last word."""
        return self.keys // self.vocabulary_size

    @cached_property
    def word(self) -> Ints:
        """int64 [M], last word of each n-gram."""
        return self.keys % self.vocabulary_size

    def of_order(self, order: int) -> slice:
        """Where the n-grams of one order lie."""
        return slice(self.bounds[order - 1], self.bounds[order])


def count_ngrams(
    numbers: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer], order: int, vocabulary: Vocabulary
) -> Ngrams:
    """Counts the n-grams of every order up to `order`, each sentence between <s> and </s>.

    Takes about 40 bytes a character of text, and as many again for each n-gram found.

    Args:
        numbers: target ids of all sentences, one after the other.
        lengths: characters in each sentence.
        order: of the longest n-grams, at least 1.
    """
    words = _words(vocabulary)
    size = vocabulary.size
    stream = _frame(numbers, lengths)
    # which n-gram of the last order counted ends at each position; 0 where the sentence has not that many words
    nodes = (np.searchsorted(words, stream) + 1).astype(np.int32)
    keys, shorter, counts = (
        [words],
        [np.zeros(len(words), np.int64)],
        [np.bincount(nodes, minlength=len(words) + 1)[1:]],
    )
    known, suffixes = words, shorter[0]
    for _ in range(2, order + 1):
        begun = (nodes[:-1] > 0) & (stream[1:] != vocabulary.bos_id)
        found = nodes[:-1][begun] * np.int64(size)
        found += stream[1:][begun]
        distinct, occurrences = np.unique(found, return_counts=True)
        context, word = np.divmod(distinct, size)
        shorter.append(np.searchsorted(known, suffixes[context - 1] * size + word) + 1)
        nodes = np.zeros_like(nodes)
        if len(keys) < order - 1:
            nodes[1:][begun] = np.searchsorted(distinct, found) + (len(known) + 1)
        keys.append(distinct)
        counts.append(occurrences)
        known, suffixes = np.concatenate(keys), np.concatenate(shorter)
    bounds = (0, *np.cumsum([len(part) for part in keys]).tolist())
    return Ngrams(known, suffixes, bounds, np.concatenate(counts), size)


def _words(vocabulary: Vocabulary) -> Ints:
    """int64, ascending: </s>, <s>, <unk> and every target."""
    targets = range(vocabulary.target_start, vocabulary.size)
    return np.array([END_ID, vocabulary.bos_id, vocabulary.unknown_id, *targets], np.int64)


def _frame(numbers: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """The sentences one after the other, each as <s> ... </s>."""
    ends = np.cumsum(lengths.astype(np.int64) + 2)
    stream = np.empty(len(numbers) + 2 * len(lengths), np.int32)
    inside = np.ones(len(stream), bool)
    inside[ends - 1] = inside[ends - 2 - lengths] = False
    stream[inside] = numbers
    stream[ends - 1] = END_ID
    stream[ends - 2 - lengths] = Vocabulary.bos_id
    return stream
