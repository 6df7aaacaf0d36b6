"""Context before the caret: at once as step by step, and against every allowed sentence through the whole model."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.config import ModelConfig, RunConfig
from hzlm.decode import converter as converter_module
from hzlm.decode import incremental
from hzlm.decode.beam import NO_PREFIX, CandidateTable, Prefix, beam_search
from hzlm.decode.converter import Converter
from hzlm.decode.incremental import IncrementalDecoder
from hzlm.decode.scorers import ModelScorer
from hzlm.decode.sentences import sentence_ends, split_sentences
from hzlm.kernels.cached_attention import cached_attention
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.pieces import Pieces
from hzlm.settings import save_settings
from hzlm.vocabulary import Vocabulary

PIECES = ("wo", "shi", "xing2", "zhong", "，", "☃")
SHAPE = ModelConfig(hidden_size=16, heads=2, feed_forward_size=32, encoder_layers=1, decoder_layers=2, max_length=16)
CONTEXTS = ("", "我", "北京。", "我爱☃。中", "银行。我是十，")

TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6)


@pytest.fixture
def converter(model: EncoderDecoder, vocabulary: Vocabulary) -> Converter:
    """With the weights as they are."""
    converter = Converter(model, vocabulary)
    converter._scorer = ModelScorer(model)
    return converter


@torch.inference_mode()
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_at_once_equals_step_by_step(
    vocabulary: Vocabulary, model: EncoderDecoder, aligned: bool, on_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over the cache as GPUs read it; the hypotheses then go on from others of their sentence."""
    if on_gpu:
        monkeypatch.setattr(incremental, "_load_cached_attention", lambda device: cached_attention)
    model.config = model.config.model_copy(update={"aligned": aligned})
    generator = torch.Generator().manual_seed(5)
    source = torch.randint(4, vocabulary.target_start, (2, 9), generator=generator)
    tokens = torch.randint(vocabulary.target_start, vocabulary.size, (2, 9, 3), generator=generator)
    tokens[:, :5] = tokens[:, :5, :1]  # the same for all hypotheses
    segments = torch.tensor([[1] * 9, [1] * 7 + [0] * 2])
    memory = model.encode(source, segments)
    stepped, filled = IncrementalDecoder(model), IncrementalDecoder(model)
    for decoder in (stepped, filled):
        decoder.start(memory, segments, beam=3)
    before = [stepped.step(tokens[:, place]) for place in range(5)]
    hidden = filled.fill(tokens[:, :5, 0])
    said = filled.logits(hidden.flatten(0, 1)).view(2, 5, -1)
    torch.testing.assert_close(said, torch.stack([x[::3] for x in before], dim=1), rtol=1e-5, atol=1e-5)
    for place in range(5, 9):
        torch.testing.assert_close(filled.step(tokens[:, place]), stepped.step(tokens[:, place]), rtol=1e-5, atol=1e-5)
        rows = torch.randint(3, (2, 3), generator=generator) + torch.tensor([[0], [3]])
        for decoder in (stepped, filled):
            decoder.reorder(rows.flatten())


@torch.inference_mode()
def enumerate_sentences(
    model: EncoderDecoder, vocabulary: Vocabulary, source: list[int], context: int
) -> dict[str, float]:
    """Every allowed text with the log-probability of what the source asks for, behind the context."""
    allowed = [[token] if token == vocabulary.unknown_id else vocabulary.candidates(token).tolist() for token in source]
    targets = torch.tensor(list(product(*allowed)))
    inputs = torch.cat([torch.full((len(targets), 1), vocabulary.bos_id), targets[:, :-1]], dim=1)
    tokens = torch.stack([torch.tensor(source).expand_as(inputs), inputs])
    hidden, _ = model((tokens, torch.arange(len(source)).expand_as(inputs), torch.ones_like(inputs).int()))
    scores = model.logits(hidden[1]).double().log_softmax(-1)
    asked = [place for place in range(context, len(source)) if vocabulary.unknown_id < source[place]]
    asked = [place for place in asked if source[place] < vocabulary.target_start]
    return {
        vocabulary.decode(target[context:].tolist()): sum(
            scores[row, place, target[place] - vocabulary.target_start].item() for place in asked
        )
        for row, target in enumerate(targets)
    }


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_search_finds_what_the_full_search_finds(converter: Converter, model: EncoderDecoder, context: str) -> None:
    (found,) = converter.candidates(["shi xing ， zhong"], n_best=30, beam=30, context=context)
    vocabulary = converter.vocabulary
    source = [vocabulary.id_of(token) for token in ("syl:shi", "syl:xing", "lit:，", "syl:zhong")]
    before = vocabulary.encode(context).tolist()
    expected = enumerate_sentences(model, vocabulary, before + source, len(before))
    assert len(found) == len(expected) == 24
    for candidate in found:
        assert candidate.log_probability == pytest.approx(expected[candidate.text], abs=1e-4)
    assert found[0].text == max(expected, key=expected.__getitem__)
    if context:
        (alone,) = converter.candidates(["shi xing ， zhong"], n_best=1, beam=30)
        assert alone[0].log_probability != pytest.approx(found[0].log_probability, abs=1e-4)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(CONTEXTS), TEXTS), max_size=6))
def test_a_batch_of_several_contexts_gives_what_each_gives_alone(texts: list[tuple[str, list[str]]]) -> None:
    vocabulary = Vocabulary(("我", "是", "事", "行", "形", "中", "重", "，", "。"), {
        "我": {"wo3": 2}, "是": {"shi4": 2}, "事": {"shi4": 1}, "行": {"xing2": 1}, "形": {"xing2": 1},
        "中": {"zhong1": 1}, "重": {"zhong4": 1},
    })  # fmt: skip
    model = EncoderDecoder(SHAPE, vocabulary.size, vocabulary.target_start).initialize(1).eval()
    converter = Converter(model, vocabulary)
    converter._scorer = ModelScorer(model)
    sources = [converter.read(" ".join(pieces), "here", context=context) for context, pieces in texts]
    done: list[int] = []
    together = converter.search(sources, n_best=3, advance=done.append)
    assert sum(done) == len(texts)
    for (context, pieces), found in zip(texts, together, strict=True):
        (alone,) = converter.candidates([" ".join(pieces)], n_best=3, context=context)
        assert [candidate.text for candidate in found] == [candidate.text for candidate in alone]
        scores = [candidate.log_probability for candidate in alone]
        assert [candidate.log_probability for candidate in found] == pytest.approx(scores, abs=1e-4)
        assert all(len(candidate.text) == len(pieces) for candidate in found)


def test_a_context_is_cut_from_the_left(converter: Converter) -> None:
    """The model takes 24 positions: four of them are the text."""
    long = "我爱北京。" * 3 + "银行，" * 3
    source = converter.read("wo shi xing ☃", "here", context=long)
    assert source.context == 20
    assert source.ids[:20].tolist() == converter.vocabulary.encode(long[-20:]).tolist()
    assert source.begun == 9
    assert source.characters == (None, None, None, "☃")
    cut = converter.candidates(["wo shi xing ☃"], context=long[-20:])
    assert converter.candidates(["wo shi xing ☃"], context=long) == cut
    assert converter.convert("wo shi xing ☃", context=long) == cut[0][0].text
    full = converter.read("wo " * 24, "here", context=long)
    assert (full.context, full.begun, len(full.ids)) == (0, 0, 24)


def test_a_context_is_as_long_as_the_model_has_learned(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    text = "银行。我是十，"
    for limit, begun in ((6, 4), (3, 3), (0, 0)):
        source = Converter(model, vocabulary, context=limit).read("wo", "here", context=text)
        assert (source.context, source.begun) == (limit, begun)
        assert source.ids[:limit].tolist() == vocabulary.encode(text)[len(text) - limit :].tolist()
    source = Converter(model, vocabulary, begun_alone=True).read("wo", "here", context=text)
    assert (source.context, source.begun) == (4, 4)
    assert Converter(model, vocabulary, begun_alone=True).read("wo", "here", context="我。").context == 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"context": 5}, (5, 4)),
        ({"context": 2, "begun_rate": 0.5}, (2, 2)),
        ({"begun_rate": 0.5}, (4, 4)),
        ({}, (0, 0)),
    ],
)
def test_what_it_has_learned_stands_in_its_config(
    model: EncoderDecoder,
    vocabulary: Vocabulary,
    data: dict[str, Any],
    expected: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(converter_module, "load_model", lambda path: (model, vocabulary))
    folder = tmp_path / "checkpoints" / "step_00000001"
    folder.mkdir(parents=True)
    config = RunConfig.model_validate(
        {
            "model": SHAPE.model_dump(),
            "data": {"path": tmp_path, "row_length": 16, "views": {"pinyin": 1.0}, **data},
            "schedule": {"scale": 1.0, "warmup_steps": 4},
            "train": {"output": tmp_path, "steps": 8, "micro_batch_rows": 3},
        },
        strict=False,
    )
    save_settings(config, folder / "config.yaml")
    for path in (folder, tmp_path):
        source = Converter.load(path).read("wo", "here", context="银行。我是十，")
        assert (source.context, source.begun) == expected


def test_white_space_between_sentences_is_left_out(converter: Converter) -> None:
    vocabulary = converter.vocabulary
    source = converter.read("wo", "here", context=" 我。\r\n 爱\n  中 银 ")
    assert source.ids[: source.context].tolist() == vocabulary.encode("我。爱中 银 ").tolist()
    assert source.begun == 4


def test_no_character_of_several_positions_is_cut(model: EncoderDecoder) -> None:
    vocabulary = Vocabulary(("我", "，"), {"我": {"wo3": 1}}, Pieces(("a",), (-100,)))
    model = EncoderDecoder(model.config, vocabulary.size, vocabulary.target_start).initialize(1)
    source = Converter(model, vocabulary).read("wo " * 22, "here", context="☃我")
    assert source.ids[: source.context].tolist() == vocabulary.encode("我").tolist()


def test_a_prefix_takes_no_part_in_the_answer(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    """Its positions are left out of the ids, and need not allow anything."""
    source = torch.tensor([[vocabulary.id_of("lit:我"), vocabulary.id_of("syl:shi")]])
    found = beam_search(
        ModelScorer(model), source, torch.tensor([2]), CandidateTable(vocabulary), 4, prefix=Prefix(1, (1,))
    )
    assert found.ids.shape == (1, 4, 1)
    whole = beam_search(ModelScorer(model), source, torch.tensor([2]), CandidateTable(vocabulary), 4, None, NO_PREFIX)
    assert torch.equal(found.ids, whole.ids[:, :, 1:]), "a literal position is as good a context"
    torch.testing.assert_close(found.log_probability, whole.log_probability, rtol=1e-5, atol=1e-5)


@given(st.text("我是中。！？!?；;…”）\n， a"))
def test_sentences_end_behind_their_punctuation_and_what_closes_there(text: str) -> None:
    """One character after the other: `after` is whether punctuation has ended this sentence."""
    expected, after = [""], False
    for character in text:
        ends = character in "。！？!?；;…"
        # punctuation goes on behind itself alone: what has closed ends the sentence for good
        goes_on = after and (character in "”）" or (ends and expected[-1][-1] not in "”）"))
        if after and not goes_on:
            expected.append("")
        expected[-1] += character
        after = ends or goes_on or character == "\n"
        if character == "\n":
            expected.append("")
            after = False
    if after:
        expected.append("")
    assert split_sentences(text) == (expected[:-1], expected[-1])
    assert len(sentence_ends(text)) == len(expected) - 1
