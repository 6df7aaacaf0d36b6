"""Weights, losses and gradients that are not finite: the step changes nothing, and all ranks name the same layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from engines import RATE, changes, complaint, make_config, start_engine, state_of

from hzlm.config import ModelConfig, RunConfig
from hzlm.data.blend import Blend
from hzlm.errors import UserError
from hzlm.launch.processes import run_ranks
from hzlm.model.encoder_decoder import EncoderDecoder
from hzlm.model.losses import TrainingLoss
from hzlm.parallel.collectives import gather_objects

Write = Callable[[Path, Sequence[str]], Path]

LAYER_OF = {
    "tokens.weight": "tokens",
    "positions.source": "positions",
    "encoder.0.attention.query.weight": "encoder.0",
    "encoder_norm.norm.bias": "encoder_norm",
    "decoder.1.cross_attention.value.weight": "decoder.1",
    "decoder_norm.norm.weight": "decoder_norm",
}
"""Weights of all kinds of layers, whose NaNs each layer's output shows."""
REMEDY = (
    "lower schedule.scale or raise schedule.warmup_steps, and start the run again: it goes on from its last checkpoint"
)
HOOKED = ("encoder.1.feed_forward_norm.weight", "decoder.0.self_attention.value.weight")
"""Replaced gradients: the second comes first on the way back, on the second of two stages."""


@dataclass(frozen=True)
class Finding:
    """What a rank makes of one faulty step."""

    weight: str
    rank: int
    """The one whose weight it was."""
    text: str
    """What is raised."""
    changed: list[str]
    """What the step has changed on this rank."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), sentences)


def break_weights(configs: Sequence[RunConfig], weights: Sequence[str]) -> list[list[Finding]]:
    """Under each config: one weight after the other broken on one rank after the other, and made whole again."""
    return [_break_weights(config, weights) for config in configs]


def _break_weights(config: RunConfig, weights: Sequence[str]) -> list[Finding]:
    engine, steps = start_engine(config)
    batches = next(steps)
    assert complaint(engine, batches, 1) == "", "nothing is wrong yet"
    world = engine.mesh.world
    findings = []
    for number, name in enumerate(weights):
        for rank, held in enumerate(gather_objects(name in engine.parameters, world)):
            if not held:
                continue
            weight = engine.parameters[name].weight.data if rank == world.index else torch.zeros(1)
            whole = weight.clone()
            # of the token table every row, since a rank does not need all of them in one step
            broken = weight if name == "tokens.weight" else weight.view(-1)[:1]
            broken.fill_((float("nan"), float("inf"))[(number + rank) % 2])
            before = state_of(engine)
            text = complaint(engine, batches, 2)
            findings.append(Finding(name, rank, text, changes(engine, before)))
            weight.copy_(whole)
    untouched, _ = start_engine(config)
    for each, step in ((untouched, 1), (engine, 2), (untouched, 2)):
        assert complaint(each, batches, step) == ""
    assert changes(engine, state_of(untouched)) == [], "as if nothing had happened"
    return findings


def test_one_process_names_the_layer_and_changes_nothing(data: Path, model_config: ModelConfig) -> None:
    """Also where no gradients are clipped, for which nobody need know their norm."""
    configs = [
        make_config(data, model_config, train={"precision": precision}, optimizer={"gradient_clipping": clipping})
        for precision, clipping in (("fp32", 0.0), ("fp32", 1.0), ("bf16", 1.0))
    ]
    # an odd number of others between the two times that a weight is broken: once by NaN, once by infinity
    weights = [*LAYER_OF, "tokens.weight", *LAYER_OF]
    for findings in break_weights(configs, weights):
        assert [finding.weight for finding in findings] == weights
        for finding in findings:
            assert finding.changed == []
            layer = LAYER_OF[finding.weight]
            assert finding.text == f"step 2: {layer} is the first layer whose output is not finite; {REMEDY}"


def test_all_ranks_name_the_layer_of_one_rank(data: Path, model_config: ModelConfig) -> None:
    """With a pipeline the token table lies on both stages; on the last one the loss alone shows its NaNs."""
    cases = [
        *(((2, 1, 1), "1f1b", precision) for precision in ("fp32", "bf16")),
        *(((1, 1, 2), "1f1b", precision) for precision in ("fp32", "bf16")),
        ((2, 1, 1), "dualpipev", "fp32"),
        ((1, 2, 1), "1f1b", "bf16"),
    ]
    configs = [
        make_config(data, model_config, layout, train={"precision": precision}, parallel={"schedule": schedule})
        for layout, schedule, precision in cases
    ]
    weights = ["encoder.0.attention.query.weight", "decoder.1.cross_attention.value.weight", "tokens.weight"]
    found = run_ranks(break_weights, 2, configs, weights)
    for (layout, schedule, _), *by_rank in zip(cases, *found, strict=True):
        # DualPipeV has the first and the last stage on rank 0
        broken = {
            "1f1b": {(0, weights[0]), (1, weights[1]), (0, weights[2]), (1, weights[2])},
            "dualpipev": {(0, weights[0]), (0, weights[1]), (0, weights[2])},
        }[schedule]
        if layout[0] == 1:
            broken = {(rank, name) for rank in (0, 1) for name in weights}
        for findings in by_rank:
            assert {(finding.rank, finding.weight) for finding in findings} == broken
            for finding in findings:
                assert finding.changed == []
                unseen = layout[0] == 2 and finding.rank == 1 and finding.weight == "tokens.weight"
                layer = "the loss" if unseen else LAYER_OF[finding.weight]
                assert finding.text == f"step 2: {layer} is the first layer whose output is not finite; {REMEDY}"


def overflow_gradients(configs: Sequence[RunConfig]) -> list[tuple[str, list[str]]]:
    """Under each config: infinite gradients of two weights, the second behind the first; and what has changed."""
    found = []
    for config in configs:
        engine, steps = start_engine(config)
        last = engine.mesh.world.index == engine.mesh.world.size - 1
        for name in HOOKED:
            if name in engine.parameters and (last or engine.mesh.tensor.size == 1):
                engine.parameters[name].weight.register_hook(lambda gradient: gradient * float("inf"))
        before = state_of(engine)
        found.append((complaint(engine, next(steps), 1), changes(engine, before)))
    return found


def test_a_gradient_that_overflows_names_its_weight(data: Path, model_config: ModelConfig) -> None:
    def configs(*layouts: tuple[int, int, int]) -> list[RunConfig]:
        return [
            make_config(data, model_config, layout, train={"precision": precision})
            for layout in layouts
            for precision in ("fp32", "bf16")
        ]

    alone = overflow_gradients(configs((1, 1, 1)))
    two = run_ranks(overflow_gradients, 2, configs((2, 1, 1), (1, 1, 2)))
    wanted = f"all outputs are finite, but the gradient of {HOOKED[1]} is not, the first on the way back"
    for found in (alone, *two):
        assert found == [(f"step 1: {wanted}; {REMEDY}", [])] * len(found)


@pytest.mark.parametrize("factor", [1e25, 1e38])
def test_a_loss_that_is_too_large(data: Path, model_config: ModelConfig, factor: float) -> None:
    """Its own value is finite. Either a gradient is not, as plain autograd finds it, or only the norm of all."""
    config = make_config(data, model_config, loss={"decoder_weight": factor})
    engine, steps = start_engine(config)
    batches = next(steps)
    vocabulary = Blend.open(config.data, "train").vocabulary
    model = EncoderDecoder(config.model, vocabulary.size, vocabulary.target_start).initialize(config.train.seed)
    loss = TrainingLoss(config.loss, vocabulary.size, vocabulary.target_start)
    for batch in batches:
        value = loss(model(batch.inputs), batch.labels) / len(batches)
        assert value.isfinite()
        value.backward()
    wrong = {name for name, weight in model.named_parameters() if not weight.grad.isfinite().all()}  # type: ignore[union-attr]
    layers = [name for name, _ in model.layers() if any(weight.startswith(f"{name}.") for weight in wrong)]
    before = state_of(engine)
    with pytest.raises(UserError) as caught:
        engine.train_step(batches, 1, RATE)
    assert changes(engine, before) == []
    assert bool(layers) == (factor == 1e38)
    if layers:
        assert f"all outputs are finite, but the gradient of {layers[-1]}." in str(caught.value)
    else:
        assert str(caught.value) == f"step 1: gradients are too large when they are added up; {REMEDY}"
