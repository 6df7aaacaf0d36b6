"""Every Triton operation against its reference in float64: by operation, dtype and dropout rate the largest error of
outputs and gradients, over the largest value.

Run as a program on a GPU, where it prints that as JSON, since the tests' own process has the kernels decorated for the
interpreter.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from hzlm.config import ModelConfig
from hzlm.kernels import attention, bias_relu_dropout, embedding, layer_norm, linear_cross_entropy
from hzlm.kernels.dropout import Draw
from hzlm.kernels.faces import Kernels, choose_kernels

HEADS, SIZE, CLASSES, IDS = 2, 64, 501, 60
WIDTH = HEADS * SIZE
SHAPE = ModelConfig(
    hidden_size=WIDTH, heads=HEADS, feed_forward_size=WIDTH, encoder_layers=1, decoder_layers=1, max_length=8
)
REFERENCES = {
    "attention": attention.attention_reference,
    "layer_norm": layer_norm.layer_norm_reference,
    "add_layer_norm": layer_norm.add_layer_norm_reference,
    "add": layer_norm.add_reference,
    "bias_relu_dropout": bias_relu_dropout.bias_relu_dropout_reference,
    "embed": embedding.embed_reference,
    "add_places": embedding.add_places_reference,
    "linear_cross_entropy": linear_cross_entropy.linear_cross_entropy_reference,
}


def draw_inputs(rate: float, rows: int, length: int) -> dict[str, tuple[list[Tensor], Callable[..., tuple[Any, ...]]]]:
    """By operation: its floating tensors in float64, and a function from these to its arguments."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    draw = Draw(rate, 2**61 + 12345, row=3, column=4)
    number = torch.arange(length)
    segments = (number // 30 + 1).where(number < length - 10, 0).int().expand(rows, length)
    x = [normal(rows, length, WIDTH) for _ in range(2)]
    vectors = [normal(WIDTH) for _ in range(3)]
    tokens, places = integers(IDS, 2, rows, length), integers(length, rows, length)
    targets, weights = integers(CLASSES, rows * length), torch.rand(rows * length, generator=generator)
    tables = [normal(length, WIDTH) for _ in range(2)]
    return {
        "attention": (
            [normal(rows, length, HEADS, SIZE) for _ in range(3)],
            lambda q, k, v: (q, k, v, segments.to(q.device), True, draw),
        ),
        "layer_norm": ([x[0], *vectors[:2]], lambda x, weight, shift: (x, weight, shift)),
        "add_layer_norm": (
            [x[0], vectors[0], x[1], *vectors[1:]],
            lambda x, bias, residual, weight, shift: (x, bias, residual, weight, shift, draw),
        ),
        "add": ([x[0], vectors[0], x[1]], lambda x, bias, residual: (x, bias, residual, draw)),
        "bias_relu_dropout": ([x[0], vectors[0]], lambda x, bias: (x, bias, draw)),
        "embed": (
            [normal(IDS, WIDTH), *tables],
            lambda table, *tables: (tokens.to(table.device), table, places.to(table.device), tables, draw),
        ),
        "add_places": (
            [normal(2, rows, length, WIDTH), *tables],
            lambda vectors, *tables: (vectors, places.to(vectors.device), tables, draw),
        ),
        "linear_cross_entropy": (
            [x[0].flatten(0, 1), normal(CLASSES, WIDTH) / WIDTH**0.5],
            lambda hidden, table: (hidden, table, targets.to(hidden.device), weights.to(hidden.device), 0.1),
        ),
    }


def run(face: Callable[..., Any], tensors: list[Tensor], arrange: Callable[..., tuple[Any, ...]]) -> Iterator[Tensor]:
    """The floating outputs and the gradients of all tensors, in float64 on the CPU."""
    own = [tensor.clone().requires_grad_() for tensor in tensors]
    # an operation may write over a product, which a leaf is not
    found = face(*arrange(*(tensor * 1 for tensor in own)))
    outputs = [output for output in (found if isinstance(found, tuple) else (found,)) if output.is_floating_point()]
    pulls = [torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape) for output in outputs]
    if outputs[0].dim() == 0:
        pulls = [torch.ones((), dtype=torch.float64)]
    gradients = torch.autograd.grad(outputs, own, [pull.to(outputs[0]) for pull in pulls])
    return (tensor.detach().double().cpu() for tensor in (*outputs, *gradients))


def measure_errors(kernels: Kernels, device: torch.device, rows: int, length: int) -> dict[str, float]:
    """Of all operations, with and without dropout."""
    errors = {}
    for rate in (0.0, 0.25):
        for name, (tensors, arrange) in draw_inputs(rate, rows, length).items():
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                rounded = [tensor.to(dtype) for tensor in tensors]
                wanted = run(REFERENCES[name], [tensor.double() for tensor in rounded], arrange)
                found = run(getattr(kernels, name), [tensor.to(device) for tensor in rounded], arrange)
                errors[f"{name} {dtype} {rate}"] = max(
                    float((ours - theirs).abs().max() / theirs.abs().max())
                    for ours, theirs in zip(found, wanted, strict=True)
                )
    return errors


if __name__ == "__main__":
    gpu = torch.device("cuda")
    print(json.dumps(measure_errors(choose_kernels("triton", gpu, SHAPE), gpu, 3, 200)))
