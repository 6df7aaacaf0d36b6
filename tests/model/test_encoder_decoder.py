"""The network against its Hugging Face twin, and its promises about packing, naming and stepping."""

import pytest
import torch
from torch import Tensor

from hzlm.model.encoder_decoder import EncoderDecoder, plan_layers
from hzlm.model.setup import Setup
from hzlm.tools.twin import copy_weights, make_twin, twin_name
from hzlm.vocabulary import Vocabulary


def draw_batch(vocabulary: Vocabulary, rows: int, length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(4, vocabulary.target_start, (rows, length), generator=generator)
    target = torch.randint(vocabulary.target_start, vocabulary.size, (rows, length), generator=generator)
    return source, target


def test_forward_and_every_gradient_equal_blenderbot(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    source, target = draw_batch(vocabulary, rows=3, length=11)
    lengths = torch.tensor([11, 7, 4])
    segments = (torch.arange(11) < lengths[:, None]).int()
    inputs = torch.cat([torch.full((3, 1), vocabulary.bos_id), target[:, :-1]], dim=1)
    counted = segments.bool()
    start = vocabulary.target_start

    hidden, table = model((torch.stack([source, inputs]), torch.arange(11).repeat(3, 1), segments))
    logits = model.logits(hidden[1])
    assert table is model.tokens.weight
    loss = torch.nn.functional.cross_entropy(logits[counted], target[counted] - start, reduction="sum")
    loss.backward()

    twin = make_twin(model.config, vocabulary.size).eval()
    copy_weights(model, twin)
    theirs = twin(input_ids=source, attention_mask=segments, decoder_input_ids=inputs, use_cache=False)
    assert not twin.final_logits_bias.any()
    their_logits = theirs.logits[..., start:]
    torch.testing.assert_close(logits[counted], their_logits[counted], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden[0][counted], theirs.encoder_last_hidden_state[counted], rtol=1e-5, atol=1e-5)
    their_loss = torch.nn.functional.cross_entropy(their_logits[counted], target[counted] - start, reduction="sum")
    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-5)
    their_loss.backward()

    gradients = {name: parameter.grad for name, parameter in twin.named_parameters()}
    largest = max(float(gradient.norm()) for gradient in gradients.values())
    names = [name for name, _ in model.named_parameters()]
    assert len({twin_name(name) for name in names}) == len(names) == len(gradients)
    for name, parameter in model.named_parameters():
        difference = float((parameter.grad - gradients[twin_name(name)]).norm())
        if name.endswith("key.bias"):
            # its true gradient is zero (softmax does not see a shift), so only rounding is left to compare
            assert float(parameter.grad.norm()) < 1e-6 * largest, name
            assert difference < 1e-6 * largest, name
        else:
            assert difference <= 1e-5 * float(gradients[twin_name(name)].norm()), name


def test_packed_rows_equal_a_sentence_a_row(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    source, target = draw_batch(vocabulary, rows=1, length=12)
    lengths = [5, 1, 4]
    segments = torch.tensor([[1] * 5 + [2] + [3] * 4 + [0] * 2])
    positions = torch.tensor([[*range(5), 0, *range(4), 0, 0]])
    packed, _ = model((torch.stack([source, target]), positions, segments))
    start = 0
    for length in lengths:
        part = slice(start, start + length)
        alone, _ = model(
            (
                torch.stack([source[:, part], target[:, part]]),
                torch.arange(length)[None],
                torch.ones(1, length, dtype=torch.int32),
            )
        )
        torch.testing.assert_close(packed[:, :, part], alone, rtol=1e-5, atol=1e-6)
        start += length


def test_layer_plan_covers_every_parameter(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    planned = [layer.name for layer in plan_layers(model.config, vocabulary.size, vocabulary.target_start, Setup())]
    named = [f"{layer}.{name}" for layer, module in model.layers() for name, _ in module.named_parameters()]
    assert [layer for layer, _ in model.layers()] == planned
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())
