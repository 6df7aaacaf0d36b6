"""N-gram models and their scorers against a dictionary read from the ARPA file of the same model."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arpa import Arpa, log10_probability, read_arpa
from damage import answer_of, damaged
from hzlm.decode.beam import CandidateTable, Prefix, beam_search
from hzlm.decode.ngram import TENSORS, NgramModel
from hzlm.decode.scorers import FusedScorer, ModelScorer, NgramScorer
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.pieces import Pieces
from hzlm.tools.ngram.arpa import write_arpa
from hzlm.tools.ngram.count import count_ngrams
from hzlm.tools.ngram.estimate import estimate
from hzlm.tools.ngram.prune import as_model, prune_to_size
from hzlm.vocabulary import Vocabulary

Trained = tuple[NgramModel, Arpa, Path]


@pytest.fixture(scope="module")
def trained(vocabulary: Vocabulary, sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A pruned 4-gram model, read from its file; the same as ARPA; and the file."""
    folder = tmp_path_factory.mktemp("ngram")
    numbers = np.concatenate([vocabulary.encode(sentence) for sentence in sentences])
    whole = estimate(count_ngrams(numbers, np.array([len(s) for s in sentences]), 4, vocabulary))
    pruned = prune_to_size(whole, 9000)
    assert len(pruned.ngrams.keys) < len(whole.ngrams.keys)
    assert pruned.ngrams.bounds[-1] > pruned.ngrams.bounds[-2]
    as_model(pruned).save(folder / "ngram.safetensors", vocabulary)
    write_arpa(pruned, vocabulary, folder / "ngram.arpa")
    arpa = read_arpa((folder / "ngram.arpa").read_text("utf-8").splitlines())
    return NgramModel.load(folder / "ngram.safetensors", vocabulary), arpa, folder / "ngram.safetensors"


def spell(vocabulary: Vocabulary, text: str) -> list[str]:
    known = set(vocabulary.characters)
    return [character if character in known else "<unk>" for character in text]


def log_probability(arpa: Arpa, words: list[str]) -> float:
    """Natural logarithm of p(words </s> | <s>)."""
    line = ["<s>", *words, "</s>"]
    return sum(log10_probability(arpa, line[max(0, i - 3) : i], line[i]) for i in range(1, len(line))) * np.log(10)


def read_as(vocabulary: Vocabulary, token: str, character: str) -> float:
    """Natural logarithm of p(token | character): each reading counts what was seen and a half."""
    if not token.startswith("syl:"):
        return 0.0
    readings = vocabulary.readings[character]
    fitting = [count + 0.5 for reading, count in readings.items() if token[4:] in (reading, reading[:-1])]
    return float(np.log(sum(fitting) / (sum(readings.values()) + 0.5 * len(readings))))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("我爱北京是事十市行形星银音中重，☃", min_size=1, max_size=10))
def test_a_text_is_as_likely_as_the_arpa_file_says(trained: Trained, vocabulary: Vocabulary, text: str) -> None:
    model, arpa, _ = trained
    _, context = model.look_up(torch.tensor([0]), torch.tensor([vocabulary.bos_id]))
    total = 0.0
    for word in [*vocabulary.encode(text).tolist(), 0]:
        score, context = model.look_up(context, torch.tensor([word]))
        total += score.item()
    assert total == pytest.approx(log_probability(arpa, spell(vocabulary, text)), abs=1e-4)


@pytest.mark.parametrize("weight", [None, 0.0, 0.7])
def test_the_search_finds_what_the_full_search_finds(
    trained: Trained, vocabulary: Vocabulary, model: EncoderDecoder, weight: float | None
) -> None:
    """Several lengths, a literal and an unknown character in a batch; the n-gram model alone, and fused."""
    ngram, arpa, _ = trained
    sources = ["syl:shi syl:xing", "syl:wo", "syl:zhong4 lit:， ☃ syl:yin syl:shi"]
    rows = [
        torch.tensor([vocabulary.unknown_id if t == "☃" else vocabulary.id_of(t) for t in source.split()])
        for source in sources
    ]
    source, lengths = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])
    table = CandidateTable(vocabulary)
    scorer = NgramScorer(ngram) if weight is None else FusedScorer(ModelScorer(model), NgramScorer(ngram), weight)
    found = beam_search(scorer, source, lengths, table, beam=16)
    alone = beam_search(ModelScorer(model), source, lengths, table, beam=16)
    for row, ids in enumerate(rows):
        allowed = [
            [token] if token == vocabulary.unknown_id else vocabulary.candidates(token).tolist()
            for token in ids.tolist()
        ]
        of_model = {
            tuple(ids): score
            for ids, score in zip(
                alone.ids[row, :, : len(ids)].tolist(), alone.log_probability[row].tolist(), strict=True
            )
        }
        expected = []
        for target in product(*allowed):
            text = vocabulary.decode(target).replace("□", "☃")
            channel = sum(read_as(vocabulary, *pair) for pair in zip(sources[row].split(), text, strict=True))
            companion = log_probability(arpa, spell(vocabulary, text)) + channel
            expected.append(companion if weight is None else of_model[target] + weight * companion)
        expected.sort(reverse=True)
        assert 1 <= len(expected) <= 16
        assert found.log_probability[row, : len(expected)].tolist() == pytest.approx(expected, abs=1e-4)
        assert found.log_probability[row, len(expected) :].isneginf().all()


def test_what_has_begun_of_the_sentence_is_its_history(trained: Trained, vocabulary: Vocabulary) -> None:
    """Behind three positions of context, of which none, one, or all belong to the sentence that goes on."""
    ngram, arpa, _ = trained
    begun, contexts = (0, 1, 3), ("我爱，", "银行我", "北京是")
    asked = torch.tensor([vocabulary.id_of("syl:shi"), vocabulary.id_of("syl:xing")])
    source = torch.stack([torch.cat([torch.from_numpy(vocabulary.encode(text)).long(), asked]) for text in contexts])
    lengths = torch.full((3,), 5)
    found = beam_search(
        NgramScorer(ngram), source, lengths, CandidateTable(vocabulary), beam=12, prefix=Prefix(3, begun)
    )
    for row, (text, count) in enumerate(zip(contexts, begun, strict=True)):
        history = ["<s>", *text[len(text) - count :]]
        expected = []
        for answer in product("是事十市", "行形星"):
            line = [*history, *answer, "</s>"]
            words = range(len(history), len(line))
            likelihood = sum(log10_probability(arpa, line[max(0, i - 3) : i], line[i]) for i in words) * np.log(10)
            expected.append(
                likelihood + read_as(vocabulary, "syl:shi", answer[0]) + read_as(vocabulary, "syl:xing", answer[1])
            )
        assert found.log_probability[row].tolist() == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file(
    trained: Trained, vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = trained[2].read_bytes()
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(data.draw(damaged(content)))
    found = answer_of(lambda: NgramModel.load(path, vocabulary), path)
    if found is not None:  # only what changes nothing may pass, such as another order of the header's keys
        assert found.bounds == trained[0].bounds
        assert all(torch.equal(getattr(found, name), getattr(trained[0], name)) for name in TENSORS)


def test_a_file_of_another_vocabulary_or_of_none(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another vocabulary"):
        NgramModel.load(trained[2], Vocabulary(("我",), {}))
    with pytest.raises(UserError, match=r"none\.safetensors"):
        NgramModel.load(tmp_path / "none.safetensors", Vocabulary(("我",), {}))


def test_pieces_and_bytes_are_words(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("我", "，", " "), {"我": {"wo3": 1}}, Pieces(("GPT", "a"), (-100, -100)))
    texts = ["我GPT，", "a é"]
    rows = [vocabulary.encode(text) for text in texts]
    ngrams = count_ngrams(np.concatenate(rows), np.array([len(row) for row in rows]), 4, vocabulary)
    write_arpa(estimate(ngrams), vocabulary, tmp_path / "ngram.arpa")
    as_model(estimate(ngrams)).save(tmp_path / "ngram.safetensors", vocabulary)
    model = NgramModel.load(tmp_path / "ngram.safetensors", vocabulary)
    arpa = read_arpa((tmp_path / "ngram.arpa").read_text("utf-8").splitlines())
    for row, words in zip(rows, [["我", "GPT", "，"], ["a", "\u2581", "byte:C3", "byte:A9"]], strict=True):
        _, context = model.look_up(torch.tensor([0]), torch.tensor([vocabulary.bos_id]))
        total = 0.0
        for word in [*row.tolist(), 0]:
            score, context = model.look_up(context, torch.tensor([word]))
            total += score.item()
        assert total == pytest.approx(log_probability(arpa, words), abs=1e-4)
