"""Training on the Triton kernels in their interpreter, against training in torch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from triton.runtime import interpreter

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.batches import BatchReader, MicroBatch
from hzlm.data.blend import Blend
from hzlm.train.engine import Engine
from hzlm.train.ranks import connect
from hzlm.vocabulary import Vocabulary

Write = Callable[[Path, Sequence[str]], Path]
STEPS = 2


@contextmanager
def launched() -> Iterator[set[str]]:
    """The names of the kernels that are launched inside."""
    names: set[str] = set()
    call = interpreter.GridExecutor.__call__

    def watched(self: Any, *arguments: Any, **named: Any) -> Any:
        names.add(f"{self.fn.__module__.rpartition('.')[2]}.{self.fn.__name__}")
        return call(self, *arguments, **named)

    with mock.patch.object(interpreter.GridExecutor, "__call__", watched):
        yield names


def make_config(data: Path, kernels: str, precision: str, dropout: float) -> RunConfig:
    """Two blocks of two heads of size 32."""
    model = ModelConfig(
        hidden_size=64, heads=2, feed_forward_size=48, encoder_layers=1, decoder_layers=1, max_length=24,
        dropout=dropout, attention_dropout=dropout, activation_dropout=dropout,
    )  # fmt: skip
    return RunConfig.model_validate(
        {
            "model": model.model_dump(),
            "data": {"path": data, "row_length": 16, "views": {"masked": 1.0, "pinyin": 1.0}},
            "loss": {"encoder_weight": 0.5, "label_smoothing": 0.1},
            "schedule": {"scale": 1.0, "warmup_steps": 10},
            "train": {
                "output": data / "run", "steps": STEPS, "micro_batch_rows": 1, "accumulation": 2,
                "kernels": kernels, "precision": precision,
            },
        },
        strict=False,
    )  # fmt: skip


def batches_of(config: RunConfig) -> list[MicroBatch]:
    reader = BatchReader(Blend.open(config.data, "train"), config.data, config.train.seed)
    return next(reader.steps(0, config.train.micro_batch_rows, config.train.accumulation)).micro_batches


def losses_of(config: RunConfig, vocabulary: Vocabulary) -> list[float]:
    """Of a few steps."""
    engine = Engine(config, vocabulary, connect(config.parallel))
    batches = batches_of(config)
    results = [engine.train_step(batches, step, 0.01) for step in range(1, STEPS + 1)]
    return [sum(side.factor * side.loss for side in result.losses.values()) for result in results]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_the_losses_are_those_of_torch(
    tmp_path: Path, write_dataset: Write, sentences: list[str], vocabulary: Vocabulary, precision: str, tolerance: float
) -> None:
    """bf16 has 8 bits, and the two paths round at other places."""
    data = write_dataset(tmp_path / "data", sentences)
    expected = losses_of(make_config(data, "torch", precision, 0.0), vocabulary)
    with launched() as names:
        found = losses_of(make_config(data, "triton", precision, 0.0), vocabulary)
    assert found == pytest.approx(expected, rel=tolerance)
    assert expected[0] > expected[-1] * 1.01, "nothing is learned"
    assert {name.partition(".")[0] for name in names} == {
        "attention", "layer_norm", "bias_relu_dropout", "column_sums", "embedding", "sum_by_id", "cross_entropy",
        "lamb",
    }  # fmt: skip


@pytest.mark.slow
def test_with_dropout_two_runs_give_the_same_bits(
    tmp_path: Path, write_dataset: Write, sentences: list[str], vocabulary: Vocabulary
) -> None:
    data = write_dataset(tmp_path / "data", sentences)
    config = make_config(data, "triton", "fp32", 0.2)
    first = losses_of(config, vocabulary)
    torch.rand(5)
    assert losses_of(config, vocabulary) == first
    assert first != losses_of(make_config(data, "triton", "fp32", 0.0), vocabulary)
