"""ARPA files: the text format in which n-gram models are exchanged."""

from pathlib import Path

import numpy as np

from hzlm.decode.ngram import END_ID
from hzlm.pinyin import LITERAL
from hzlm.stored_files import replacing
from hzlm.tools.ngram.estimate import Estimate
from hzlm.vocabulary import Vocabulary

LINES_AT_ONCE = 100_000


def write_arpa(estimate: Estimate, vocabulary: Vocabulary, path: Path) -> None:
    """Writes log10 probability, words and log10 back-off weight of every n-gram; the file appears when it is whole.

    The tokens of the vocabulary are the words: characters, and pieces and bytes (`byte:E4`) where it has them. A blank,
    which would part words, is written as U+2581.
    """
    ngrams = estimate.ngrams
    names = {END_ID: "</s>", vocabulary.bos_id: "<s>", vocabulary.unknown_id: "<unk>"}
    for word in range(vocabulary.target_start, vocabulary.size):
        names[word] = vocabulary.tokens[word].removeprefix(LITERAL).replace(" ", "\u2581")
    probability, backoff = estimate.log_probability / np.log(10), estimate.log_backoff / np.log(10)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {n}={ngrams.bounds[n] - ngrams.bounds[n - 1]}\n" for n in range(1, ngrams.order + 1))
        for order in range(1, ngrams.order + 1):
            file.write(f"\n\\{order}-grams:\n")
            for start in range(ngrams.bounds[order - 1], ngrams.bounds[order], LINES_AT_ONCE):
                part = slice(start, min(start + LINES_AT_ONCE, ngrams.bounds[order]))
                words = _words_of(estimate, part, order)
                for log_p, spelt, weight in zip(probability[part].tolist(), words, backoff[part].tolist(), strict=True):
                    line = f"{log_p:.7g}\t{' '.join(map(names.__getitem__, spelt))}"
                    file.write(f"{line}\n" if order == ngrams.order else f"{line}\t{weight:.7g}\n")
        file.write("\n\\end\\\n")


def _words_of(estimate: Estimate, part: slice, order: int) -> list[list[int]]:
    """The words of each n-gram of one order."""
    ngrams = estimate.ngrams
    columns = [ngrams.word[part]]
    context = ngrams.context[part]
    for _ in range(order - 1):
        columns.append(ngrams.word[context - 1])
        context = ngrams.context[context - 1]
    rows: list[list[int]] = np.stack(columns[::-1], axis=1).tolist()
    return rows
