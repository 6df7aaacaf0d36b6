"""The network against its Hugging Face twin, and its promises about packing, naming and stepping."""

import pytest
import torch
from torch import Tensor
from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration

from hzlm.config import ModelConfig
from hzlm.model.encoder_decoder import EncoderDecoder, plan_layers
from hzlm.vocabulary import Vocabulary

RENAMED = {
    "attention_norm": "self_attn_layer_norm", "attention": "self_attn", "feed_forward_norm": "final_layer_norm",
    "self_norm": "self_attn_layer_norm", "self_attention": "self_attn", "cross_norm": "encoder_attn_layer_norm",
    "cross_attention": "encoder_attn", "query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj",
    "expand": "fc1", "contract": "fc2",
}  # fmt: skip


def twin_name(name: str) -> str:
    """Our parameter name -> Hugging Face's."""
    if name == "tokens.weight":
        return "model.shared.weight"
    if name.startswith("positions."):
        return f"model.{'encoder' if name.endswith('source') else 'decoder'}.embed_positions.weight"
    side, *parts = name.split(".")
    if side.endswith("_norm"):
        return f"model.{side.removesuffix('_norm')}.layer_norm.{parts[-1]}"
    number, *inner = parts
    inner = [part for part in inner if part != "feed_forward"]
    return ".".join(["model", side, "layers", number, *(RENAMED.get(part, part) for part in inner)])


def make_twin(model: EncoderDecoder, vocabulary_size: int) -> BlenderbotForConditionalGeneration:
    config = model.config
    twin = BlenderbotForConditionalGeneration(
        BlenderbotConfig(
            vocab_size=vocabulary_size, d_model=config.hidden_size, max_position_embeddings=config.max_length,
            encoder_layers=config.encoder_layers, decoder_layers=config.decoder_layers,
            encoder_attention_heads=config.heads, decoder_attention_heads=config.heads,
            encoder_ffn_dim=config.feed_forward_size, decoder_ffn_dim=config.feed_forward_size,
            activation_function="relu", dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
            scale_embedding=False, attn_implementation="eager",
        )
    )  # fmt: skip
    theirs = dict(twin.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            theirs[twin_name(name)].copy_(parameter)
    return twin.eval()


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

    twin = make_twin(model, vocabulary.size)
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


@pytest.mark.parametrize("aligned", [False, True])
def test_steps_equal_the_forward_pass(vocabulary: Vocabulary, model_config: ModelConfig, aligned: bool) -> None:
    config = model_config.model_copy(update={"aligned": aligned})
    model = EncoderDecoder(config, vocabulary.size, vocabulary.target_start).initialize(1).eval()
    source, target = draw_batch(vocabulary, rows=2, length=6)
    segments = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    hidden, _ = model((torch.stack([source, target]), torch.arange(6).repeat(2, 1), segments))
    memory = model.encode(source, segments)
    torch.testing.assert_close(memory, hidden[0])
    caches = model.start(memory, segments, beams=1)
    for position in range(6):
        stepped = model.step(target[:, position, None], position, memory, caches)[:, 0]
        whole = hidden[1][:, position]
        alive = segments[:, position] == 1
        torch.testing.assert_close(stepped[alive], whole[alive], rtol=1e-5, atol=1e-6)


def test_layer_plan_covers_every_parameter(model: EncoderDecoder, vocabulary: Vocabulary) -> None:
    planned = [layer.name for layer in plan_layers(model.config, vocabulary.size)]
    named = [f"{layer}.{name}" for layer, module in model.layers() for name, _ in module.named_parameters()]
    assert [layer for layer, _ in model.layers()] == planned
    assert sorted(named) == sorted(name for name, _ in model.named_parameters())
