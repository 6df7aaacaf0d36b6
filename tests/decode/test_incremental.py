"""The decoder run position by position, in each layout of its weights, against the whole model at once."""

import copy

import pytest
import torch

from hzlm.config import ModelConfig
from hzlm.decode.beam import NO_PREFIX
from hzlm.decode.incremental import IncrementalDecoder
from hzlm.decode.packed import can_pack, has_bfloat16, pack, pack_linears
from hzlm.decode.scorers import ModelScorer
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.vocabulary import Vocabulary

needs_packing = pytest.mark.skipif(not can_pack(torch.device("cpu")), reason="this build of PyTorch has no FBGEMM")


def draw(vocabulary: Vocabulary, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    source = torch.randint(4, vocabulary.target_start, (rows, length), generator=generator)
    return source, torch.randint(vocabulary.target_start, vocabulary.size, (rows, length), generator=generator)


@pytest.mark.parametrize("aligned", [False, True])
def test_steps_equal_the_forward_pass(vocabulary: Vocabulary, model_config: ModelConfig, aligned: bool) -> None:
    config = model_config.model_copy(update={"aligned": aligned})
    model = EncoderDecoder(config, vocabulary.size, vocabulary.target_start).initialize(1).eval()
    source, target = draw(vocabulary, rows=2, length=6)
    segments = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    hidden, _ = model((torch.stack([source, target]), torch.arange(6).repeat(2, 1), segments))
    memory = model.encode(source, segments)
    torch.testing.assert_close(memory, hidden[0])
    decoder = IncrementalDecoder(model)
    for _ in range(2):  # a second search finds nothing left of the first
        decoder.start(memory, segments, beam=1)
        for position in range(6):
            stepped = decoder.step(target[:, position, None])
            alive = segments[:, position] == 1
            whole = model.logits(hidden[1][:, position])
            torch.testing.assert_close(stepped[alive], whole[alive], rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_hypotheses_go_on_from_others(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    """Three beams, reordered at random between the steps, against the whole past of each through the whole model."""
    source, _ = draw(vocabulary, rows=2, length=5)
    segments = torch.ones(2, 5, dtype=torch.int32)
    decoder = IncrementalDecoder(model)
    decoder.start(model.encode(source, segments), segments, beam=3)
    generator = torch.Generator().manual_seed(1)
    past = torch.empty(6, 0, dtype=torch.long)
    for position in range(5):
        tokens = torch.randint(vocabulary.target_start, vocabulary.size, (6, 1), generator=generator)
        past = torch.cat([past, tokens], dim=1)
        stepped = decoder.step(tokens.view(2, 3))
        inputs = torch.nn.functional.pad(past, (0, 4 - position))
        whole = (torch.stack([source.repeat_interleave(3, dim=0), inputs]), torch.arange(5).repeat(6, 1))
        hidden, _ = model((*whole, segments.repeat_interleave(3, dim=0)))
        torch.testing.assert_close(stepped, model.logits(hidden[1][:, position]), rtol=1e-5, atol=1e-5)
        rows = torch.randint(3, (2, 3), generator=generator) + torch.tensor([[0], [3]])
        decoder.reorder(rows.flatten())
        past = past[rows.flatten()]


@needs_packing
@pytest.mark.parametrize("rows", [1, 5, 33])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_multiplies_by_its_weights_in_16_bits(rows: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight, x = torch.randn(70, 48, generator=generator), torch.randn(rows, 48, generator=generator)
    added = torch.randn(70, generator=generator) if bias else None
    expected = x.double() @ weight.half().double().T + (0 if added is None else added.double())
    torch.testing.assert_close(pack(weight, added)(x).double(), expected, rtol=1e-5, atol=1e-5)


@needs_packing
def test_packing_replaces_every_linear_layer(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    packed = copy.deepcopy(model)
    pack_linears(packed.encoder)
    assert not any(isinstance(module, torch.nn.Linear) for module in packed.encoder.modules())
    source, _ = draw(vocabulary, rows=2, length=6)
    segments = torch.ones(2, 6, dtype=torch.int32)
    torch.testing.assert_close(packed.encode(source, segments), model.encode(source, segments), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("sentences", [1, 12])
def test_quick_layouts_say_nearly_the_same(model: EncoderDecoder, vocabulary: Vocabulary, sentences: int) -> None:
    """One sentence takes the layout for few rows, twelve that for many; float16 and bfloat16 have 11 and 8 bits."""
    weights = copy.deepcopy(model)
    source, target = draw(vocabulary, sentences, length=6)
    lengths = torch.full((sentences,), 6)
    found = []
    for quick in (False, True):
        scorer = ModelScorer(model, quick)
        scorer.start(source, lengths, 2, NO_PREFIX)
        decoder = scorer._decoder
        found.append(torch.stack([decoder.step(target[:, t, None].repeat(1, 2)).float() for t in range(6)]))
    packed = sentences == 1 and can_pack(torch.device("cpu"))
    bound = 0.01 if packed else 0.1 if has_bfloat16(torch.device("cpu")) else 1e-6
    difference = (found[0] - found[1]).abs().max() / found[0].abs().max()
    assert difference < bound
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights.get_parameter(name)), "the model itself is left as it was"
