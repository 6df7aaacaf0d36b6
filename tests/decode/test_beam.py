"""Constrained beam search against a search without cache over every allowed sentence."""

from itertools import product

import pytest
import torch

from hzlm.decode.beam import CandidateTable, beam_search
from hzlm.decode.scorers import ModelScorer
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary

SOURCES = [["syl:shi", "syl:xing"], ["syl:wo"], ["syl:zhong4", "syl:shi", "lit:，", "syl:yin"], ["key:sh", "syl:xing2"]]


def full_search(model: EncoderDecoder, vocabulary: Vocabulary, source: list[int]) -> list[tuple[float, list[int]]]:
    """Every allowed sentence with its log-probability, best first, each through the whole model."""
    found = []
    length = len(source)
    tokens = torch.tensor(source)[None]
    segments, positions = torch.ones(1, length, dtype=torch.int32), torch.arange(length)[None]
    for target in product(*(vocabulary.candidates(token).tolist() for token in source)):
        inputs = torch.tensor([[vocabulary.bos_id, *target[:-1]]])
        hidden, _ = model((torch.stack([tokens, inputs]), positions, segments))
        scores = model.logits(hidden[1, 0]).double().log_softmax(-1)
        asked = [t for t in range(length) if source[t] < vocabulary.target_start]
        found.append((sum(scores[t, target[t] - vocabulary.target_start].item() for t in asked), list(target)))
    return sorted(found, reverse=True)


def encode(vocabulary: Vocabulary, sources: list[list[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = [torch.tensor([vocabulary.id_of(token) for token in source]) for source in sources]
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True), torch.tensor([len(source) for source in sources])


def test_a_wide_beam_finds_what_the_full_search_finds(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    source, lengths = encode(vocabulary, SOURCES)
    beam = 24  # as many as the longest list of allowed sentences
    found = beam_search(ModelScorer(model), source, lengths, CandidateTable(vocabulary), beam)
    for row, tokens in enumerate(SOURCES):
        expected = full_search(model, vocabulary, source[row, : lengths[row]].tolist())
        assert len(expected) <= beam
        assert len(expected) > 1 or len(tokens) == 1
        for place, (score, target) in enumerate(expected):
            assert found.ids[row, place, : len(tokens)].tolist() == target
            assert found.log_probability[row, place].item() == pytest.approx(score, abs=1e-4)
        assert found.log_probability[row, len(expected) :].isneginf().all(), "no hypothesis beyond the allowed ones"
        assert not found.ids[row, :, len(tokens) :].any(), "nothing after the end"


def test_beam_1_is_greedy(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    source, lengths = encode(vocabulary, SOURCES)
    found = beam_search(ModelScorer(model), source, lengths, CandidateTable(vocabulary), beam=1)
    for row in range(len(SOURCES)):
        chosen: list[int] = []
        length = int(lengths[row])
        for position in range(length):  # no cache: the whole prefix again at every step
            inputs = torch.zeros(1, length, dtype=torch.long)
            inputs[0, : position + 1] = torch.tensor([vocabulary.bos_id, *chosen])
            tokens = torch.stack([source[row : row + 1, :length], inputs])
            hidden, _ = model((tokens, torch.arange(length)[None], torch.ones(1, length, dtype=torch.int32)))
            scores = model.logits(hidden[1, 0, position])
            allowed = vocabulary.candidates(int(source[row, position])).tolist()
            chosen.append(max(allowed, key=lambda token: scores[token - vocabulary.target_start].item()))
        assert found.ids[row, 0, :length].tolist() == chosen


def test_padding_and_neighbours_change_nothing(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    table = CandidateTable(vocabulary)
    together = beam_search(ModelScorer(model), *encode(vocabulary, SOURCES), table, beam=3)
    for row, tokens in enumerate(SOURCES):
        alone = beam_search(ModelScorer(model), *encode(vocabulary, [tokens]), table, beam=3)
        assert torch.equal(alone.ids[0], together.ids[row, :, : len(tokens)])
        torch.testing.assert_close(alone.log_probability[0], together.log_probability[row], rtol=1e-5, atol=1e-5)


def test_unknown_characters_pass_through(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    source = torch.tensor([[vocabulary.unknown_id, vocabulary.id_of("syl:wo")]])
    found = beam_search(ModelScorer(model), source, torch.tensor([2]), CandidateTable(vocabulary), beam=2)
    assert found.ids[0, 0].tolist() == [vocabulary.unknown_id, vocabulary.id_of("lit:我")]


def test_a_syllable_without_hanzi_is_refused(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    source = torch.tensor([[vocabulary.id_of("syl:zuo")]])
    with pytest.raises(ValueError, match="no target is allowed where the source has syl:zuo"):
        beam_search(ModelScorer(model), source, torch.tensor([1]), CandidateTable(vocabulary), beam=2)
