"""Beam search on random vocabularies, models and sources, against every allowed sentence through the whole model."""

from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.config import ModelConfig
from hzlm.decode.beam import CandidateTable, beam_search
from hzlm.decode.scorers import ModelScorer
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary

HANZI = "中重种自子字"
SENTENCES = 150
"""At most so many are allowed for a source."""


@st.composite
def searches(draw: st.DrawFn) -> tuple[EncoderDecoder, Vocabulary, list[list[int]]]:
    """A model, its vocabulary of up to six hanzi, and a batch of sources of different lengths."""
    characters = draw(st.lists(st.sampled_from(HANZI), min_size=1, unique=True))
    readings = st.dictionaries(st.sampled_from(["zhong1", "zhong4", "zi3"]), st.integers(0, 9), min_size=1)
    vocabulary = Vocabulary((*characters, "，"), {hanzi: draw(readings) for hanzi in characters})
    shown = {reading for counts in vocabulary.readings.values() for reading in counts}
    tokens = [token for reading in shown for token in (f"syl:{reading}", f"syl:{reading[:-1]}", "key:z")]
    ids = [vocabulary.id_of(token) for token in (*tokens, "lit:，", f"lit:{characters[0]}", "[UNK]", "[MASK]")]
    source = st.lists(st.sampled_from(sorted(set(ids))), min_size=1, max_size=4).filter(
        lambda source: prod(len(allowed(vocabulary, token)) for token in source) <= SENTENCES
    )
    config = ModelConfig(
        hidden_size=8, heads=2, feed_forward_size=8, encoder_layers=1, decoder_layers=draw(st.sampled_from([1, 2])),
        max_length=6, dropout=0.0, aligned=draw(st.booleans()),
    )  # fmt: skip
    model = EncoderDecoder(config, vocabulary.size, vocabulary.target_start).initialize(1)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    return model.eval(), vocabulary, draw(st.lists(source, min_size=1, max_size=4))


def allowed(vocabulary: Vocabulary, token: int) -> list[int]:
    return [token] if token == vocabulary.unknown_id else vocabulary.candidates(token).tolist()


@torch.inference_mode()
def enumerate_sentences(
    model: EncoderDecoder, vocabulary: Vocabulary, source: list[int]
) -> dict[tuple[int, ...], float]:
    """Every allowed sentence with its log-probability: what the source does not tell itself counts."""
    sentences = list(product(*(allowed(vocabulary, token) for token in source)))
    targets = torch.tensor(sentences)
    inputs = torch.cat([torch.full((len(targets), 1), vocabulary.bos_id), targets[:, :-1]], dim=1)
    tokens = torch.stack([torch.tensor(source).expand_as(inputs), inputs])
    places = torch.arange(len(source)).expand_as(inputs)
    hidden, _ = model((tokens, places, torch.ones_like(inputs).int()))
    scores = model.logits(hidden[1]).double().log_softmax(-1)
    asked = [place for place, token in enumerate(source) if token < vocabulary.target_start]
    asked = [place for place in asked if source[place] != vocabulary.unknown_id]
    return {
        sentence: sum(scores[row, place, sentence[place] - vocabulary.target_start].item() for place in asked)
        for row, sentence in enumerate(sentences)
    }


@settings(max_examples=50)
@given(searches(), st.integers(1, 5))
def test_beams_against_every_allowed_sentence(
    search: tuple[EncoderDecoder, Vocabulary, list[list[int]]], narrow: int
) -> None:
    model, vocabulary, sources = search
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(source) for source in sources], batch_first=True)
    lengths = torch.tensor([len(source) for source in sources])
    for beam in (SENTENCES, narrow):
        found = beam_search(ModelScorer(model), padded, lengths, CandidateTable(vocabulary), beam)
        for row, source in enumerate(sources):
            expected = enumerate_sentences(model, vocabulary, source)
            scores = [score for score in found.log_probability[row].tolist() if score > -torch.inf]
            sentences = [tuple(ids[: len(source)]) for ids in found.ids[row].tolist()[: len(scores)]]
            assert len(set(sentences)) == len(sentences) == min(beam, len(expected))
            assert scores == sorted(scores, reverse=True)
            # a true log-probability each, also of a beam that lost better sentences on its way
            assert scores == pytest.approx([expected[sentence] for sentence in sentences], abs=1e-3)
            assert not found.ids[row, :, len(source) :].any(), "nothing after the end"
            if beam == SENTENCES:
                assert scores == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-3)
