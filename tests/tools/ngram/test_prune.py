"""Pruned models: still distributions, as large as asked, and without what is worth least."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.decode.ngram import BYTES_PER_NGRAM
from hzlm.tools.ngram.build import perplexity
from hzlm.tools.ngram.count import count_ngrams
from hzlm.tools.ngram.estimate import Estimate, estimate
from hzlm.tools.ngram.prune import as_model, keep, prefix_closed, prune_to_size, removal_costs
from hzlm.vocabulary import Vocabulary

CHARACTERS = "甲乙丙丁戊"
VOCABULARY = Vocabulary(tuple(CHARACTERS), {})
TEXTS = st.lists(st.text(CHARACTERS + "☃", min_size=1, max_size=8), min_size=1, max_size=15)


def train(sentences: list[str], order: int) -> Estimate:
    numbers = np.concatenate([VOCABULARY.encode(sentence) for sentence in sentences])
    return estimate(count_ngrams(numbers, np.array([len(s) for s in sentences]), order, VOCABULARY))


def sums(found: Estimate) -> torch.Tensor:
    """Sum of the probabilities of all words but <s>, after every n-gram and after nothing."""
    words = torch.tensor([0, VOCABULARY.unknown_id, *range(VOCABULARY.target_start, VOCABULARY.size)])
    contexts = torch.arange(found.ngrams.bounds[-2] + 1)
    scores, _ = as_model(found).look_up(contexts[:, None], words[None])
    return scores.exp().sum(1)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 4), st.floats(0, 1))
def test_probabilities_sum_to_1_in_every_context(sentences: list[str], order: int, share: float) -> None:
    whole = train(sentences, order)
    torch.testing.assert_close(sums(whole), torch.ones_like(sums(whole)), rtol=0, atol=1e-9)
    size = int(share * len(whole.ngrams.keys)) * BYTES_PER_NGRAM
    pruned = prune_to_size(whole, size)
    assert len(pruned.ngrams.keys) == max(size // BYTES_PER_NGRAM, whole.ngrams.bounds[1])
    assert (np.diff(pruned.ngrams.keys) > 0).all()
    torch.testing.assert_close(sums(pruned), torch.ones_like(sums(pruned)), rtol=0, atol=1e-9)


def test_the_cost_is_what_removing_one_ngram_costs() -> None:
    """Against the definition: relative entropy between the model and the one without it, summed over all words."""
    generator = np.random.default_rng(0)
    found = train(["".join(generator.choice(list(CHARACTERS), 6, p=[0.4, 0.3, 0.15, 0.1, 0.05])) for _ in range(40)], 2)
    ngrams = found.ngrams
    costs = removal_costs(found)
    words = torch.tensor([0, VOCABULARY.unknown_id, *range(VOCABULARY.target_start, VOCABULARY.size)])
    total = ngrams.counts[ngrams.of_order(1)].sum()
    for index in range(ngrams.bounds[1], len(ngrams.keys)):
        kept = np.ones(len(ngrams.keys), bool)
        kept[index] = False
        context = torch.tensor(ngrams.context[index])
        before, _ = as_model(found).look_up(context, words)
        after, _ = as_model(keep(found, kept)).look_up(context, words)
        share = ngrams.counts[ngrams.context[index] - 1] / total
        assert costs[index] == pytest.approx(share * float((before.exp() * (before - after)).sum()), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_worth_least_goes(seed: int) -> None:
    """The n-grams kept predict new text of the same source better than as many chosen by lot."""
    generator = np.random.default_rng(seed)
    follow = generator.dirichlet(np.full(5, 0.3), size=(5, 5))

    def write(count: int) -> list[str]:
        texts = []
        for _ in range(count):
            line = [0, 0]
            while len(line) < 14:
                line.append(int(generator.choice(5, p=follow[line[-2], line[-1]])))
            texts.append("".join(CHARACTERS[i] for i in line))
        return texts

    found, new = train(write(300), 4), write(200)
    numbers, lengths = np.concatenate([VOCABULARY.encode(text) for text in new]), np.array([len(text) for text in new])
    half = len(found.ngrams.keys) // 2
    pruned = prune_to_size(found, half * BYTES_PER_NGRAM)
    drawn = generator.random(len(found.ngrams.keys))
    drawn[found.ngrams.of_order(1)] = 2.0
    kept = np.zeros(len(drawn), bool)
    kept[np.argsort(-prefix_closed(drawn, found.ngrams), kind="stable")[:half]] = True
    by_lot = perplexity(as_model(keep(found, kept)), numbers, lengths)
    assert perplexity(as_model(pruned), numbers, lengths) < by_lot
