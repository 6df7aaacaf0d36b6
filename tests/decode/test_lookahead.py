"""What an n-gram model expects of the rest of a sentence, against every way on."""

from itertools import product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.decode.beam import CandidateTable, Prefix, beam_search
from hzlm.decode.lookahead import look_ahead
from hzlm.decode.ngram import END_ID, NgramModel
from hzlm.decode.scorers import NgramScorer
from hzlm.tools.ngram.count import count_ngrams
from hzlm.tools.ngram.estimate import estimate
from hzlm.tools.ngram.prune import as_model
from hzlm.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    (*"中重种自子字，",),
    {
        "中": {"zhong1": 5}, "重": {"zhong4": 3}, "种": {"zhong3": 2, "zhong4": 1}, "自": {"zi4": 4}, "子": {"zi3": 2},
        "字": {"zi4": 1},
    },
)  # fmt: skip
TEXTS = st.lists(st.text("".join(VOCABULARY.characters), min_size=1, max_size=6), min_size=1, max_size=8)
TOKENS = ("syl:zhong", "syl:zi", "syl:zi4", "syl:zhong4", "key:z", "lit:，", "[UNK]")
SOURCES = st.lists(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4), min_size=1, max_size=4)


def ngram_of(texts: list[str], order: int) -> NgramModel:
    numbers = np.concatenate([VOCABULARY.encode(text) for text in texts])
    return as_model(estimate(count_ngrams(numbers, np.array([len(text) for text in texts]), order, VOCABULARY)))


def encode(sources: list[list[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [torch.tensor([VOCABULARY.id_of(token) for token in source]) for source in sources]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def allowed(token: int) -> list[tuple[int, float]]:
    """Targets and the logarithms of how often they are read so."""
    if token == VOCABULARY.unknown_id:
        return [(token, 0.0)]
    readings = VOCABULARY.reading_log_probabilities(token).tolist()
    return list(zip(VOCABULARY.candidates(token).tolist(), readings, strict=True))


def likelihood(model: NgramModel, context: int, words: list[int]) -> float:
    """log p(words | the word of a unigram context), each by the word before it alone."""
    total = 0.0
    for word in words:
        score, _ = model.look_up(torch.tensor([context]), torch.tensor([word]))
        _, node = model.look_up(torch.tensor([0]), torch.tensor([word]))
        total, context = total + score.item(), int(node)
    return total


@settings(max_examples=15, deadline=None)
@given(TEXTS, SOURCES)
def test_the_outlook_is_the_best_of_all_ways_on(texts: list[str], sources: list[list[str]]) -> None:
    model = ngram_of(texts, 2)
    source, lengths = encode(sources)
    choices = list(CandidateTable(VOCABULARY).choices(source))
    outlooks = look_ahead(model.bigrams, choices, lengths - 1)
    for row, length in enumerate(lengths.tolist()):
        for place in range(length):
            rest = [allowed(token) for token in source[row, place + 1 : length].tolist()]
            for number, (word, _) in enumerate(allowed(int(source[row, place]))):
                _, context = model.look_up(torch.tensor([0]), torch.tensor([word]))
                best = max(
                    likelihood(model, int(context), [*(way for way, _ in ways), END_ID]) + sum(read for _, read in ways)
                    for ways in product(*rest)
                )
                expected = best if rest else 0.0
                assert abs(outlooks[place][row, number].item() - expected) < 1e-4
            missing = choices[place].missing[row]
            assert not outlooks[place][row][missing].any()
        for place in range(length, len(choices)):
            assert not outlooks[place][row].any(), "nothing follows the end"


@settings(max_examples=15, deadline=None)
@given(TEXTS, SOURCES, st.integers(0, 2))
def test_one_hypothesis_is_enough_for_bigrams(texts: list[str], sources: list[list[str]], context: int) -> None:
    """Also behind a prefix, of which one position belongs to the sentence."""
    scorer = NgramScorer(ngram_of(texts, 2))
    table = CandidateTable(VOCABULARY)
    source, lengths = encode([["lit:中", "lit:字"][:context] + source for source in sources])
    prefix = Prefix(context, (1,) * len(sources) if context else ())
    narrow = beam_search(scorer, source, lengths, table, 1, prefix=prefix)
    wide = beam_search(scorer, source, lengths, table, 6**4, prefix=prefix)
    torch.testing.assert_close(narrow.log_probability[:, 0], wide.log_probability[:, 0], rtol=1e-5, atol=1e-4)


def test_a_model_of_unigrams_expects_what_is_likeliest() -> None:
    model = ngram_of(["中重种", "自子字", "中"], 1)
    source, lengths = encode([["syl:zi", "syl:zhong"]])
    first, second = look_ahead(model.bigrams, list(CandidateTable(VOCABULARY).choices(source)), lengths - 1)
    best = max(
        likelihood(model, 0, [word]) + read + likelihood(model, 0, [END_ID])
        for word, read in allowed(VOCABULARY.id_of("syl:zhong"))
    )
    assert torch.allclose(first, torch.full_like(first, best), atol=1e-5)
    assert not second.any()
