"""The bigrams of an n-gram model, found by their first word."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bigrams:
    """The unigrams and bigrams of an n-gram model with V words, by word id. Logarithms are natural ones."""

    log_unigram: Scores
    """[V]; minus infinity for ids that are no words."""
    log_backoff: Scores
    """[V]."""
    starts: Numbers
    """[V + 1]: of word w the bigrams w v are those from starts[w] to starts[w + 1]."""
    following: npt.NDArray[np.int32]
    """[bigrams], v."""
    log_probability: Scores
    """[bigrams], of v after w."""

    def best_following(self, words: Numbers, rows: Numbers, worth: Scores) -> Scores:
        """For each of M words the best v: max of log p(v | word) + worth[row of the word, v].

        Where a bigram is known its backed-off estimate counts as well: in a model whose bigrams are interpolated with
        unigrams that is never the larger one.

        Args:
            words, rows: [M].
            worth: [B, V]; minus infinity for what cannot follow, but not for all.
        """
        counts = self.starts[words + 1] - self.starts[words]
        ends = counts.cumsum()
        places = np.arange(ends[-1]) + np.repeat(self.starts[words] - (ends - counts), counts)
        reached = worth[np.repeat(rows, counts), self.following[places]] + self.log_probability[places]
        best = self.log_backoff[words] + (worth + self.log_unigram).max(axis=1)[rows]
        some = counts > 0
        best[some] = np.maximum(best[some], np.maximum.reduceat(reached, (ends - counts)[some]))
        return best
