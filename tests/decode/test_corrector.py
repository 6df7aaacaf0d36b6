"""The Corrector against plain passes through the whole model, its search against every allowed text."""

from itertools import product
from math import inf

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hzlm.config import ModelConfig
from hzlm.decode import corrector as corrector_module
from hzlm.decode.calibration import Caution
from hzlm.decode.corrector import Corrector
from hzlm.decode.scorers import ModelScorer
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.pieces import Pieces
from hzlm.pinyin import is_hanzi
from hzlm.vocabulary import Vocabulary

HANZI = "我爱北京经"
SHAPE = ModelConfig(hidden_size=16, heads=2, feed_forward_size=32, encoder_layers=1, decoder_layers=2, max_length=9)


class ExactCorrector(Corrector):
    """With the weights as they are: a text alone may otherwise run in another layout of them."""

    def __init__(self, model: EncoderDecoder, vocabulary: Vocabulary, caution: Caution) -> None:
        super().__init__(model, vocabulary, caution)
        self.plain = model
        self._model = ModelScorer(model)


def build(seed: int, caution: Caution, pieces: Pieces | None = None) -> ExactCorrector:
    """Around a random model."""
    vocabulary = Vocabulary((*HANZI, "，", "。"), {hanzi: {"wo3": 1} for hanzi in HANZI}, pieces)
    model = EncoderDecoder(SHAPE, vocabulary.size, vocabulary.target_start).initialize(seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.4)
    return ExactCorrector(model, vocabulary, caution)


@torch.inference_mode()
def likelihoods(corrector: ExactCorrector, text: str, targets: list[list[int]]) -> torch.Tensor:
    """float64 [texts, positions, targets]: log-probabilities where the decoder is fed these targets at once."""
    source = torch.tensor(corrector.vocabulary.encode(text).tolist())
    fed = torch.tensor([[corrector.vocabulary.bos_id, *target[:-1]] for target in targets])
    tokens = torch.stack([source.expand_as(fed), fed])
    hidden, _ = corrector.plain((tokens, torch.arange(len(source)).expand_as(fed), torch.ones_like(fed).int()))
    found: torch.Tensor = corrector.plain.logits(hidden[1]).double().log_softmax(-1)
    return found


def own(row: torch.Tensor, written: int) -> float:
    """Of the written token: an unknown one is as likely as all but the likeliest target."""
    if written == Vocabulary.unknown_id:
        return (1 - row.max().exp()).log().item()
    return row[written - Vocabulary.target_start].item()


def best_of_all(corrector: ExactCorrector, text: str) -> dict[str, float]:
    """Every text that may come of it, with its score."""
    vocabulary, caution = corrector.vocabulary, corrector.caution
    source = vocabulary.encode(text).tolist()
    hanzi = [vocabulary.id_of(f"lit:{character}") for character in HANZI]
    options = [
        sorted({token, *hanzi}) if is_hanzi(character) else [token]
        for token, character in zip(source, text, strict=True)
    ]
    targets = [list(target) for target in product(*options)]
    scores = likelihoods(corrector, text, targets)
    found = {}
    for target, rows in zip(targets, scores, strict=True):
        total = 0.0
        for character, written, token, row in zip(text, source, target, rows, strict=True):
            if not is_hanzi(character):
                continue
            if token == written:
                total += own(row, written) + caution.bias
            elif row[token - vocabulary.target_start].item() >= own(row, written) + caution.threshold:
                total += row[token - vocabulary.target_start].item()
            else:
                total = -inf
        new = (
            old if token == written else vocabulary.decode([token])
            for old, written, token in zip(text, source, target, strict=True)
        )
        found["".join(new)] = total
    return found


@settings(max_examples=25)
@given(
    st.text(HANZI + "龘，☃", min_size=1, max_size=4),
    st.integers(1, 5),
    st.sampled_from([-inf, 0.0, 1.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
)
def test_a_wide_beam_finds_what_the_full_search_finds(text: str, seed: int, threshold: float, bias: float) -> None:
    corrector = build(seed, Caution(bias, threshold))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corrector_module, "BEAM", 1500)
        found = corrector.correct(text)
    scores = best_of_all(corrector, text)
    assert scores[found.text] == pytest.approx(max(scores.values()), abs=1e-4)
    assert [change.position for change in found.changes] == [
        i for i, (a, b) in enumerate(zip(text, found.text, strict=True)) if a != b
    ]
    vocabulary = corrector.vocabulary
    source = vocabulary.encode(text).tolist()
    target = vocabulary.encode(found.text).tolist()
    rows = likelihoods(corrector, text, [target])[0]
    for change in found.changes:
        row = rows[change.position]
        gain = row[target[change.position] - vocabulary.target_start].item() - own(row, source[change.position])
        assert (change.wrong, change.right) == (text[change.position], found.text[change.position])
        assert change.gain == pytest.approx(gain, abs=1e-3)
        assert change.gain >= threshold - 1e-4


@pytest.mark.parametrize("text", ["我爱北经", "爱，北我，经", "京我我"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_caution_a_narrow_beam_takes_the_likeliest_hanzi(
    text: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrector_module, "BEAM", 1)
    corrector = build(seed, Caution(0.0, -inf))
    vocabulary = corrector.vocabulary
    taken: list[int] = []
    for place, character in enumerate(text):
        fed = [*taken, *[0] * (len(text) - place)]
        row = likelihoods(corrector, text, [fed])[0, place]
        best = max(HANZI, key=lambda hanzi: row[vocabulary.id_of(f"lit:{hanzi}") - vocabulary.target_start].item())
        taken.append(vocabulary.id_of(f"lit:{best if is_hanzi(character) else character}"))
    found = corrector.correct(text)
    assert found.text == vocabulary.decode(taken)
    assert found.changes, "a random model finds something else likelier"


TEXTS = st.text(st.sampled_from(HANZI + "龘，。☃é\n 。") | st.characters(), max_size=40)


@settings(max_examples=20)
@given(TEXTS, st.booleans())
def test_with_all_caution_nothing_changes(text: str, pieces: bool) -> None:
    cut = Pieces(("GPT", "a"), (-100, -100)) if pieces else None
    for caution in (Caution(0.0, inf), Caution(1e9, -inf)):
        found = build(1, caution, cut).correct(text)
        assert (found.text, found.changes) == (text, ())


@settings(max_examples=10)
@given(st.lists(TEXTS, max_size=5), st.booleans())
def test_a_batch_gives_what_each_text_gives_alone(texts: list[str], pieces: bool) -> None:
    """Texts of any length: only hanzi change, and only into hanzi."""
    corrector = build(2, Caution(0.0, 0.5), Pieces(("GPT", "a"), (-100, -100)) if pieces else None)
    done: list[int] = []
    together = corrector.correct_many(texts, done.append)
    assert sum(done) == len(texts)
    for text, found in zip(texts, together, strict=True):
        alone = corrector.correct(text)
        assert found.text == alone.text
        assert [change.gain for change in found.changes] == pytest.approx([c.gain for c in alone.changes], abs=1e-3)
        different = [(old, new) for old, new in zip(text, found.text, strict=True) if old != new]
        assert different == [(change.wrong, change.right) for change in found.changes]
        assert all(is_hanzi(old) and new in HANZI for old, new in different)


def test_each_sentence_is_corrected_on_its_own() -> None:
    """Nine positions fit: a longer sentence is cut behind the ninth."""
    corrector = build(3, Caution(0.0, -inf))
    parts = ["我爱。", "北京，经！”", "我", "\n", "我爱北京经我爱北京", "经，爱…。", "北京经"]
    text = "".join(parts[:3]) + "\n" + "".join(parts[4:])
    found = corrector.correct(text)
    assert found.text == "".join(corrector.correct(part).text for part in parts)
    assert found.text != text
    assert [change.position for change in found.changes] == [
        place for place, (old, new) in enumerate(zip(text, found.text, strict=True)) if old != new
    ]


@pytest.mark.parametrize(
    ("text", "lengths"), [("我ab!ab。爱", [3, 1]), ("我☃☃☃☃☃爱", [7, 1]), ("龘é。é", [4]), ("☃爱☃我☃中", [8, 4])]
)
def test_characters_of_several_positions_are_not_cut(text: str, lengths: list[int]) -> None:
    """☃ takes three positions, é two; what has no hanzi is left out."""
    corrector = build(3, Caution(0.0, -inf), Pieces(("ab",), (-100,)))
    pieces = corrector._cut(0, text)
    assert [len(piece.ids) for piece in pieces] == lengths
    assert [
        text[place] for piece in pieces for place, hanzi in zip(piece.places, piece.written, strict=True) if hanzi
    ] == [character for character in text if is_hanzi(character)]
    assert len(corrector.correct(text).text) == len(text)


def test_an_unknown_hanzi_may_be_corrected_and_an_unknown_sign_not() -> None:
    corrector = build(1, Caution(-1e9, -inf))
    assert corrector.correct("龘☃").text[0] in HANZI
    assert corrector.correct("龘☃").text[1] == "☃"


def test_nothing_gives_nothing() -> None:
    corrector = build(1, Caution())
    assert corrector.correct_many([]) == []
    assert corrector.correct("").text == ""
    assert corrector.correct("，☃\n").changes == ()
