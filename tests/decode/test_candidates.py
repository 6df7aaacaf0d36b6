"""What source tokens allow: their own hanzi, those of syllables taken for them, keys and hidden positions."""

import math

import pytest
import torch

from hzlm.decode.beam import CandidateTable, beam_search
from hzlm.decode.converter import Converter
from hzlm.decode.scorers import ModelScorer
from hzlm.errors import UserError
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary


def allowed(table: CandidateTable, vocabulary: Vocabulary, token: str) -> dict[str, float]:
    """Hanzi -> reading, as the table says."""
    (choices,) = table.choices(torch.tensor([[vocabulary.id_of(token)]]))
    assert not choices.missing.any()
    return dict(zip(map(vocabulary.decode, choices.ids[0, :, None].tolist()), choices.reading[0].tolist(), strict=True))


def test_alternatives_cost_their_penalty(vocabulary: Vocabulary) -> None:
    """行 is read xing2 half of the time, and 中 zhong1; 重 is allowed by zhong itself and pays nothing."""
    ids = {name: vocabulary.id_of(f"syl:{name}") for name in ("xing", "zhong", "zhong4")}
    alternatives = {ids["xing"]: [ids["zhong"]], ids["zhong4"]: [ids["zhong"], ids["xing"]]}
    table = CandidateTable(vocabulary, alternatives, penalty=0.25)
    of_xing = allowed(table, vocabulary, "syl:xing")
    assert of_xing == pytest.approx({"行": math.log(0.5), "形": 0.0, "星": 0.0, "中": -0.25, "重": -0.25}, abs=1e-6)
    of_zhong4 = allowed(table, vocabulary, "syl:zhong4")
    assert of_zhong4["重"] == 0.0
    assert of_zhong4["中"] == pytest.approx(-0.25), "likelier as another one that may be meant than as zhong4 (half)"
    assert of_zhong4["行"] == pytest.approx(math.log(0.5) - 0.25)
    assert allowed(table, vocabulary, "syl:zhong") == allowed(CandidateTable(vocabulary), vocabulary, "syl:zhong")


def test_fuzzy_pinyin_is_converted(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    """si has no hanzi of its own here; a tone holds for what may be meant as well."""
    fuzzy = Converter(model, vocabulary, fuzzy=("sh-s", "in-ing"))

    def found(text: str) -> set[str]:
        return {candidate.text for candidate in fuzzy.candidates([text], n_best=30)[0]}

    assert found("si") == set("是事十市")
    assert found("si4") == set("是事市")
    assert found("yin") == set("银音")
    assert found("jin") == {"京"}
    assert found("si yin，") == {f"{a}{b}，" for a in "是事十市" for b in "银音"}
    for text in ("ci", "si3"):
        with pytest.raises(UserError, match="knows no hanzi that is read"):
            fuzzy.candidates([text])
    with pytest.raises(UserError, match="knows no hanzi that is read si"):
        Converter(model, vocabulary).candidates(["si"])


def test_keys_and_hidden_positions_are_searched(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    tokens = ("key:sh", "[MASK]", "lit:，", "key:zh")
    source = torch.tensor([[vocabulary.id_of(token) for token in tokens]])
    found = beam_search(ModelScorer(model), source, torch.tensor([4]), CandidateTable(vocabulary), 4 * 16 * 2)
    texts = [vocabulary.decode(ids) for ids in found.ids[0].tolist()]
    characters = vocabulary.characters
    assert set(texts) == {f"{a}{b}，{c}" for a in "是事十市" for b in characters for c in "中重"}
    assert len(texts) == len(set(texts))
    hidden, _ = model((
        torch.stack([source, torch.tensor([[vocabulary.bos_id, *found.ids[0, 0, :3].tolist()]])]),
        torch.arange(4)[None], torch.ones(1, 4, dtype=torch.int32),
    ))  # fmt: skip
    scores = model.logits(hidden[1, 0]).log_softmax(-1)
    expected = sum(scores[place, found.ids[0, 0, place] - vocabulary.target_start].item() for place in (0, 1, 3))
    assert found.log_probability[0, 0].item() == pytest.approx(expected, abs=1e-4)
