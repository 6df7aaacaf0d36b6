"""The engine on four processes, two stages of two tensor-parallel ranks, against Hugging Face's Blenderbot."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradients import put_together
from one_step import LENGTH, MICRO_BATCHES, ROWS, draw_batch, draw_weights, step_as_rank
from torch.nn import functional

from hzlm.config import ModelConfig, RunConfig
from hzlm.launch.processes import run_ranks
from hzlm.tools.twin import copy_weights, make_twin, twin_name
from hzlm.vocabulary import Vocabulary

ENCODER_WEIGHT = 0.5


def make_config(folder: Path, model: ModelConfig, parallel: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": model.model_dump(),
            "data": {"path": folder, "row_length": LENGTH, "views": {"pinyin": 1.0}},
            "loss": {"encoder_weight": ENCODER_WEIGHT},
            "optimizer": {"gradient_clipping": 1e9},
            "schedule": {"scale": 1.0, "warmup_steps": 10},
            "train": {
                "output": folder / "run", "steps": 1, "micro_batch_rows": ROWS, "accumulation": MICRO_BATCHES,
            },
            "parallel": parallel,
        },
        strict=False,
    )  # fmt: skip


def differentiate_twin(config: RunConfig, vocabulary: Vocabulary) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Of Hugging Face's model with the same weights: the mean loss of each side, and every gradient."""
    twin = make_twin(config.model, vocabulary.size).eval()
    copy_weights(draw_weights(config, vocabulary), twin)
    batch = draw_batch(vocabulary)
    output = twin(
        input_ids=batch.source, attention_mask=batch.segments, decoder_input_ids=batch.inputs, use_cache=False
    )
    start = vocabulary.target_start
    logits = {
        "encoder": output.encoder_last_hidden_state @ twin.model.shared.weight[start:].T,
        "decoder": output.logits[..., start:],
    }
    losses = {
        side: functional.cross_entropy(of_side[asked], batch.target[asked] - start)
        for (side, of_side), asked in zip(logits.items(), batch.asked, strict=True)
    }
    (ENCODER_WEIGHT * losses["encoder"] + losses["decoder"]).backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in twin.named_parameters()}
    return {side: loss.item() for side, loss in losses.items()}, gradients


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({}, id="whole rows"),
        pytest.param({"sequence_parallel": True, "recompute": "selective"}, id="split rows"),
    ],
)
def test_every_gradient_equals_blenderbot(
    tmp_path: Path, vocabulary: Vocabulary, model_config: ModelConfig, extra: dict[str, Any]
) -> None:
    config = make_config(tmp_path, model_config, {"pipe": 2, "tensor": 2, "timeout_minutes": 1.0, **extra})
    losses, gradients = differentiate_twin(config, vocabulary)
    found = run_ranks(step_as_rank, 4, config, vocabulary)
    norms = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
    for result, _ in found:
        assert {side: each.loss for side, each in result.losses.items()} == pytest.approx(losses, rel=1e-6)
        assert result.gradient_norm == pytest.approx(np.linalg.norm(list(norms.values())), rel=1e-5)
    stages = [[parts for _, parts in found[:2]], [parts for _, parts in found[2:]]]
    names = [name for name, _ in draw_weights(config, vocabulary).named_parameters()]
    assert {twin_name(name) for name in names} == gradients.keys()
    for name in names:
        holders = [stage for stage in stages if name in stage[0]]
        assert len(holders) == (2 if name == "tokens.weight" else 1), name
        for stage in holders:
            ours, theirs = put_together([parts[name] for parts in stage]), gradients[twin_name(name)]
            # the true gradient of a key bias is zero, so only rounding is left to compare
            bound = 1e-6 * max(norms.values()) if name.endswith("key.bias") else 1e-5 * norms[twin_name(name)]
            assert float(np.linalg.norm(ours - theirs)) <= bound, name
