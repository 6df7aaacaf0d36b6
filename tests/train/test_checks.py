"""What `train.checks` finds after a step, in real processes, and that it finds nothing where nothing is wrong."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from engines import changes, complaint, make_config, start_engine, state_of
from torch import nn

from hzlm.config import ModelConfig, RunConfig
from hzlm.launch.processes import run_ranks
from hzlm.parallel.mesh import ALONE
from hzlm.train.checks import StepChecks
from hzlm.train.engine import Engine

Write = Callable[[Path, Sequence[str]], Path]
Fault = Callable[[Engine], None]
BUG = "please report this as a bug"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, write_dataset: Write, sentences: list[str]) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), sentences)


def change_after_step(name: str, engine: Engine) -> None:
    """As if the weights of the data-parallel ranks had not been gathered: ZeRO makes them equal in every step."""
    run = engine._run

    def run_and_change(*arguments: object) -> None:
        run(*arguments)  # type: ignore[arg-type]
        engine.parameters[name].weight.data.view(-1)[0] += 1e-6

    engine._run = run_and_change  # type: ignore[method-assign]


def change_master(name: str, engine: Engine) -> None:
    """What becomes of the weight in the next step."""
    engine.parameters[name].masters.view(-1)[0] += 1e-3


def break_gradient(name: str, engine: Engine) -> None:
    weight = engine.parameters[name].weight
    earlier = list(weight._backward_hooks.items())  # that of the checks, which shall see the broken one
    weight._backward_hooks.clear()
    weight.register_hook(lambda gradient: torch.full_like(gradient, float("nan")))
    weight._backward_hooks.update(earlier)


def lose_gradient(name: str, engine: Engine) -> None:
    engine.parameters[name].weight.requires_grad_(False)


def train_with_faults(cases: Sequence[tuple[RunConfig, int, Fault]]) -> list[list[str]]:
    """What two steps say under each config; before the second one a rank does something wrong."""
    found = []
    for config, rank, fault in cases:
        engine, steps = start_engine(config)
        batches = next(steps)
        texts = [complaint(engine, batches, 1)]
        if engine.mesh.world.index == rank:
            fault(engine)
        found.append([*texts, complaint(engine, batches, 2)])
    return found


def test_each_fault_is_found_and_named_on_all_ranks(data: Path, model_config: ModelConfig) -> None:
    """Each on rank 1 alone: of the data, of the pipe, of the tensor axis."""

    def config(pipe: int, parallel_data: int, tensor: int) -> RunConfig:
        return make_config(data, model_config, (pipe, parallel_data, tensor), train={"checks": True})

    changed, bias = "encoder.1.attention.output.weight", "decoder.1.self_norm.bias"
    # the norm of the gradients counts what all tensor-parallel ranks have alike on the first of them
    cases = [
        (config(1, 2, 1), partial(change_after_step, changed), f"{changed} is not the same on ranks 0 and 1"),
        (config(2, 1, 1), partial(change_master, "tokens.weight"), "tokens.weight is not the same on ranks 0 and 1"),
        (config(1, 1, 2), partial(change_master, bias), f"{bias} is not the same on ranks 0 and 1"),
        (config(1, 1, 2), partial(break_gradient, bias), f"rank 1: the gradient of {bias} is not finite"),
        (config(2, 1, 1), partial(lose_gradient, bias), f"rank 1: {bias} has got no gradient"),
    ]
    found = run_ranks(train_with_faults, 2, [(config, 1, fault) for config, fault, _ in cases])
    for texts in found:
        for (_, _, wanted), (first, second) in zip(cases, texts, strict=True):
            assert first == "", wanted
            assert second == f"step 2{', ' if wanted.startswith('rank') else ': '}{wanted}; {BUG}"


def train_well(configs: Sequence[RunConfig]) -> list[tuple[list[str], bool]]:
    """What three steps say under each config, and whether they have trained something."""
    found = []
    for config in configs:
        engine, steps = start_engine(config)
        before = state_of(engine)
        texts = [complaint(engine, next(steps), step) for step in (1, 2, 3)]
        found.append((texts, len(changes(engine, before)) > 0))
    return found


def test_nothing_is_found_in_good_training(data: Path, model_config: ModelConfig) -> None:
    """Parts of a tensor differ, and so do the stages; with split rows the ranks see other rows, too."""
    configs = [
        make_config(data, model_config, (2, 1, 2), train={"checks": True, "precision": "bf16"}),
        make_config(
            data, model_config, (1, 2, 2), train={"checks": True, "micro_batch_rows": 2, "accumulation": 1},
            parallel={"sequence_parallel": True},
        ),
    ]  # fmt: skip
    found = run_ranks(train_well, 4, configs)
    assert found == [[([""] * 3, True)] * 2] * 4


def test_a_skipped_step_may_have_any_gradient_and_the_next_one_not() -> None:
    weights = {"some.weight": nn.Parameter(torch.ones(2)), "other.weight": nn.Parameter(torch.ones(2))}
    checks = StepChecks(weights, ALONE)

    def backward(factor: float) -> None:
        checks.begin()
        (factor * weights["some.weight"].sum() + weights["other.weight"].sum()).backward()

    backward(float("inf"))
    checks.check(1, skipped=True)
    backward(1.0)
    checks.check(2, skipped=False)
    backward(float("inf"))
    with pytest.raises(Exception, match=f"step 3, rank 0: the gradient of some.weight is not finite; {BUG}"):
        checks.check(3, skipped=False)
    backward(float("inf"))  # what was done before the step, beside training
    checks.begin()
    weights["some.weight"].sum().backward()
    with pytest.raises(Exception, match=f"step 4, rank 0: other.weight has got no gradient; {BUG}"):
        checks.check(4, skipped=True)
